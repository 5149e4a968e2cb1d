"""Fitting codecs to calibration samples: a config's own, or one config for its whole family."""

from collections.abc import Iterator

import torch

from lamofcbench.bench.rates import held
from lamofcbench.codecs.artefact import Artefact
from lamofcbench.codecs.base import Codec
from lamofcbench.dataset import load_dataset
from lamofcbench.errors import UnknownNameError
from lamofcbench.spec import load_scenario

__all__ = ["FITS", "FITTED_ON", "fit_codec"]

FITS = ("own", "family")
FITTED_ON = {
    "vit": "nyuv2-vit",
    "llm": "arc-llm",
    "ssm": "arc-ssm",
    "alm": "librispeech-clean-alm",
    "t2i": "canny-t2i",
    "mllm": "vqa-mllm",
}
"""The config that stands for each family, as in the benchmark."""


def fit_codec(
    codec: Codec, fit: str, archive: str, config: str, profile: str | None, mode: str | None
) -> Artefact:
    """Fit a codec to calibration samples, without the tokens that every decoder holds.

    Args:
        codec: one that is fitted.
        fit: ``own`` for the config's calibration split, ``family`` for that of `FITTED_ON`.
        archive: as for `load_dataset`.
        config: whose features will be coded.
        profile: as for `load_dataset`.
        mode: whose keys; the first without one, all keys for ``all``. A family's config is fitted
            on all of its keys.

    Raises:
        UnknownNameError: no such fit.
        ArchiveNotFoundError: the archive lacks the config that is fitted on.
    """
    if fit not in FITS:
        raise UnknownNameError("fit", fit, FITS)
    source = config if fit == "own" else FITTED_ON[load_scenario(config).family]
    dataset = load_dataset(archive, source, profile=profile, split="calibration")
    whole = mode == "all" or source != config
    own = () if whole else dataset.manifest.declaration.mode(mode).keys
    keys = list(own) or dataset.keys
    common = held(dataset, keys)

    def samples() -> Iterator[dict[str, torch.Tensor]]:
        for item in dataset:
            features = {key: item["features"][key] for key in keys}
            yield common.to_fit(features, whole=codec.fits_whole)

    return codec.fit(samples(), common.axes)
