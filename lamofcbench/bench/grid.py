"""The grid of codecs that a whole board runs: one data file, and networks trained for it."""

import tomllib
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from lamofcbench.bench.fits import FITTED_ON
from lamofcbench.bench.train import TrainRequest, train_codec
from lamofcbench.codecs import parse_codec
from lamofcbench.codecs.artefact import Artefact
from lamofcbench.dataset import load_dataset
from lamofcbench.errors import BitstreamError, SampleError
from lamofcbench.manifest import Manifest

__all__ = ["Grid", "Training", "load_grid"]


class _Trained(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    settings: str
    steps: int
    lambdas: tuple[float, ...]


class _Declared(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    samples: dict[str, str]
    codecs: dict[str, tuple[str, ...]]
    trained: dict[str, _Trained]
    input: dict[str, tuple[str, ...]]


@dataclass(frozen=True)
class Training:
    """A network that the grid needs.

    Attributes:
        codec: with its settings.
        config: on whose training split.
        archive: as for `load_dataset`.
        profile: as for `load_dataset`.
        steps: of the optimiser.
        lmbda: what squared error costs.
        path: of its artefact.
    """

    codec: str
    config: str
    archive: str
    profile: str | None
    steps: int
    lmbda: float
    path: Path

    def run(self) -> str:
        """Train it, unless its artefact is there; say why not if it can't be."""
        try:
            if Artefact.load(self.path).codec == self.codec.partition(":")[0]:
                return ""
        except BitstreamError:
            pass
        request = TrainRequest(
            (self.config,), "all", self.archive, self.profile, self.steps, self.lmbda
        )
        try:
            train_codec(parse_codec(self.codec), request).save(self.path)
        except SampleError as error:
            return f"{self.path.stem}: {error}"
        return ""


class Grid:
    """Codecs with their settings, as for `bench`."""

    def __init__(self, declared: _Declared) -> None:
        """Use `load_grid`."""
        self._declared = declared

    def samples(self, family: str) -> str:
        """Positions of the test split that a family's configs are run on."""
        return self._declared.samples[family]

    def codecs(self) -> list[str]:
        """All that need neither training nor inputs, as for `parse_codec`, in order."""
        return [
            f"{name}:{setting}" if setting else name
            for name, settings in self._declared.codecs.items()
            for setting in settings
        ]

    def inputs(self, family: str) -> list[str]:
        """The anchor's settings for a family."""
        return [f"input:{setting}" for setting in self._declared.input[family]]

    def trainings(
        self, family: str, archive: str, profile: str | None, folder: Path
    ) -> list[Training]:
        """The networks that a family's configs are coded with.

        Args:
            family: a family's name.
            archive: as for `load_dataset`.
            profile: as for `load_dataset`.
            folder: where artefacts are kept. Their names say what they were trained on, so that
                one that is there need not be trained again.
        """
        config = FITTED_ON[family]
        dataset = load_dataset(archive, config, profile=profile, split="train")
        manifest = dataset.manifest
        if not isinstance(manifest, Manifest) or not len(dataset):
            raise SampleError(f"{dataset.store}: no finished training split to train codecs on")
        made = []
        for name, trained in self._declared.trained.items():
            for lmbda in trained.lambdas:
                stem = f"{name}-{config}-{manifest.content_hash[:8]}"
                file = f"{stem}-{trained.settings}-{trained.steps}-{lmbda:g}.safetensors"
                spec = f"{name}:{trained.settings}"
                where = (config, archive, profile, trained.steps, lmbda, folder / file)
                made.append(Training(spec, *where))
        return made


def load_grid() -> Grid:
    """Read ``grid.toml``."""
    text = (resources.files("lamofcbench") / "bench" / "grid.toml").read_text("utf-8")
    return Grid(_Declared.model_validate(tomllib.loads(text)))
