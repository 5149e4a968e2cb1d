"""Training codecs on an archive's samples."""

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch

from lamofcbench.bench.rates import Held, held
from lamofcbench.codecs.artefact import Artefact
from lamofcbench.codecs.base import Codec
from lamofcbench.codecs.learned.base import Learned
from lamofcbench.codecs.learned.training import train_weights
from lamofcbench.dataset import FeatureDataset, load_dataset
from lamofcbench.errors import SampleError

__all__ = ["TrainRequest", "train_codec"]

SPLIT = "train"


@dataclass(frozen=True)
class TrainRequest:
    """What to train on, and how.

    Attributes:
        configs: their names.
        mode: whose keys; each config's first without one, all keys for ``all``.
        archive: as for `load_dataset`.
        profile: as for `load_dataset`.
        steps: see `train_weights`, as for the rest.
        lmbda: what squared error costs.
        seed: of everything that is drawn.
        batch: patches a step.
        patch: their side.
    """

    configs: tuple[str, ...]
    mode: str | None
    archive: str
    profile: str | None
    steps: int
    lmbda: float
    seed: int = 0
    batch: int = 8
    patch: int = 64


class _Samples:
    """Samples of several data sets, as codecs are fitted to them."""

    def __init__(self, parts: Sequence[tuple[FeatureDataset, Held]], *, whole: bool) -> None:
        self._parts = parts
        self._places = [
            (part, row) for part, (found, _) in enumerate(parts) for row in range(len(found))
        ]
        self._whole = whole

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, place: int) -> dict[str, torch.Tensor]:
        part, row = self._places[place]
        dataset, common = self._parts[part]
        features = dataset[row]["features"]
        return common.to_fit({key: features[key] for key in dataset.keys}, whole=self._whole)

    def __iter__(self) -> Iterator[dict[str, torch.Tensor]]:
        return (self[place] for place in range(len(self)))


def train_codec(
    codec: Codec, request: TrainRequest, step: Callable[[float], object] = lambda loss: None
) -> Artefact:
    """Train a codec on the training split of some configs.

    Args:
        codec: one that is trained.
        request: on what, and how.
        step: called with each step's loss.

    Returns:
        Weights and scalings; the latter are fitted to the same samples.

    Raises:
        SampleError: the codec is not trained.
        ArchiveNotFoundError, UnknownNameError: a config or its training split is missing.
    """
    if not isinstance(codec, Learned):
        raise SampleError(f"{codec.name} is not trained; fit it with `lamofcbench calibrate`")
    parts = []
    for config in request.configs:
        load = functools.partial(
            load_dataset, request.archive, config, profile=request.profile, split=SPLIT
        )
        dataset = load()
        if request.mode != "all":
            dataset = load(tensors=dataset.manifest.declaration.mode(request.mode).keys)
        parts.append((dataset, held(dataset, dataset.keys)))
    samples = _Samples(parts, whole=codec.fits_whole)
    axes = {key: names for _, common in parts for key, names in common.axes.items()}
    scalings = codec.fit_scalings(samples, axes)
    constant = {key for _, common in parts for key in common.keys}
    codec.weights = train_weights(
        codec,
        samples,
        axes,
        {
            key: scaling
            for key, scaling in scalings.items()
            if codec.fits_whole or key not in constant
        },
        steps=request.steps,
        lmbda=request.lmbda,
        seed=request.seed,
        batch=request.batch,
        patch=request.patch,
        step=step,
    )
    about = {
        "trained_on": ",".join(request.configs),
        "mode": request.mode or "first",
        "fit": "trained",
        **{name: str(getattr(request, name)) for name in ("steps", "lmbda", "seed", "batch")},
        "patch": str(request.patch),
    }
    return codec.make_artefact(scalings, about)
