"""Checking results that somebody else measured, from their bitstreams.

Nothing is encoded here. Bitstreams are decoded by the decoder that is installed under their codec's
name, and every column that follows from them is computed again::

    <folder>/<config>/<mode>/<point>/<sample id>.lmfb

or, for one row alone, ``<folder>/<sample id>.lmfb``, as `lamofcbench encode` writes them.
"""

import math
import urllib.parse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from lamofcbench.bench.curves import Result
from lamofcbench.bench.files import HELD_FILE, bitstream_path
from lamofcbench.bench.points import Features, Uncoded, checked
from lamofcbench.bench.rates import RATE_FIGURES, CodedPoint, Held, held
from lamofcbench.bench.results import result_rows
from lamofcbench.bench.scoring import Measured, Runner, measured
from lamofcbench.bench.setup import Setup, set_up
from lamofcbench.bitstream import Bitstream, read_bitstream
from lamofcbench.codecs import create_codec
from lamofcbench.codecs.artefact import Artefact
from lamofcbench.codecs.base import Axes
from lamofcbench.dataset import FeatureDataset, load_dataset
from lamofcbench.errors import BitstreamError, LamofcError, SampleError
from lamofcbench.manifest import Manifest

__all__ = ["Checked", "Checker", "Difference", "bitstream_folder", "load_artefacts"]

EXACT = ("bpfp", "bpfp_pool", "bpfp_all", "ebpfp", "ratio", "artefact_bytes")
ROUNDING = 1e-9
"""Lengths and counts may differ by the order of a sum, no more."""
TOLERANCE = 1e-6
MOST_RESAMPLES = 100_000
SAFE = ":=,@.-_+#"


@dataclass(frozen=True)
class Difference:
    """A column that doesn't agree, with what it says and what came out."""

    column: str
    said: Any
    found: Any


@dataclass(frozen=True)
class Checked:
    """What came of one row.

    Attributes:
        row: as it was claimed.
        agreeing: columns that follow from the bitstreams.
        differing: those that don't.
        unchecked: figures that bitstreams alone don't tell.
        error: why it couldn't be checked at all: bitstreams that are missing or damaged.
    """

    row: Mapping[str, Any]
    agreeing: list[str] = field(default_factory=list)
    differing: list[Difference] = field(default_factory=list)
    unchecked: list[str] = field(default_factory=list)
    error: str = ""

    @property
    def ok(self) -> bool:
        """Whether all that was checked agrees."""
        return not self.error and not self.differing


def bitstream_folder(folder: Path, row: Mapping[str, Any]) -> Path | None:
    """Where the bitstreams of a row lie; None if they don't."""
    names = [urllib.parse.quote(str(row[n]), safe=SAFE) for n in ("config", "mode", "point")]
    place = folder.joinpath(*names)
    return place if place.is_dir() else None


def load_artefacts(folder: Path | None) -> dict[bytes, Artefact]:
    """Read the artefacts of a folder, by their sha256.

    Raises:
        BitstreamError: a file is damaged.
    """
    paths = [] if folder is None else sorted(folder.glob("**/*.safetensors"))
    loaded = [Artefact.load(path) for path in paths if path.name != HELD_FILE]
    return {artefact.sha256: artefact for artefact in loaded}


class _Installed:
    """In a codec's place: bytes from a file, and the decoder that is installed for them."""

    name = "installed"

    def __init__(self, artefact: Artefact | None) -> None:
        self._artefact = artefact
        self._data = b""
        self._wanted: Features = {}

    def start(self, data: bytes) -> None:
        """Take up the next file."""
        self._data, self._wanted = data, {}

    def encode(self, features: Features, axes: Axes) -> bytes:
        """Give the file's bytes, whatever is asked for."""
        # Asked twice if there are shared tokens, the second time with all of them.
        self._wanted = self._wanted or dict(features)
        return self._data

    def decode(self, stream: Bitstream) -> dict[str, torch.Tensor]:
        """Decode, and compare shapes with those of the features that were coded."""
        if stream.artefact != (self._artefact.sha256 if self._artefact else b""):
            raise BitstreamError("needs another artefact than the first sample")
        if set(stream.keys) != set(self._wanted):
            raise BitstreamError(
                f"holds {', '.join(stream.keys)}; the mode's keys are {', '.join(self._wanted)}"
            )
        codec = create_codec(stream.codec, stream.parameters, self._artefact)
        return checked(codec.decode(stream), self._wanted)


@dataclass
class _Files:
    """A point whose bitstreams are files."""

    name: str
    folder: Path
    point: CodedPoint
    installed: _Installed

    def __call__(self, sample: str, features: Features) -> Features:
        path = bitstream_path(self.folder, sample)
        try:
            self.installed.start(path.read_bytes())
            return self.point(sample, features)
        except OSError as error:
            raise BitstreamError(f"{path}: {error.strerror}") from None
        except LamofcError as error:
            raise BitstreamError(f"{path}: {error}") from None

    def numbers(self) -> Mapping[str, Sequence[float]]:
        """See `Counting`."""
        return self.point.numbers()


@dataclass
class _Place:
    """What all rows of one config, mode and set of samples share."""

    dataset: FeatureDataset
    setup: Setup
    runner: Runner
    held: Held
    uncoded: Measured
    chance: float


class Checker:
    """Computes rows again from their bitstreams; the uncoded answers are computed once."""

    def __init__(
        self,
        archive: str,
        artefacts: Mapping[bytes, Artefact],
        tolerance: float = TOLERANCE,
        device: str = "cpu",
    ) -> None:
        """Prepare.

        Args:
            archive: as for `load_dataset`.
            artefacts: by sha256.
            tolerance: relative difference that scores, fidelities and distortions may have.
            device: where the model runs.
        """
        self._archive = archive
        self._artefacts = artefacts
        self._tolerance = tolerance
        self._device = device
        self._places: dict[tuple[str, ...], _Place] = {}

    def check(self, result: Result, folder: Path) -> Checked:
        """Compute a row again.

        Args:
            result: the row, and which samples it is of.
            folder: the bitstreams of this row.

        Raises:
            SampleError: the archive holds other features than were measured, or an artefact is
                missing.
            UnknownNameError: the codec is not installed.
            LamofcError: the archive or the model is missing.
        """
        row, place = result.row, self._place(result)
        _check_bootstrap(result)
        try:
            first = _read(bitstream_path(folder, result.samples[0]))
            artefact = self._artefact(first)
            create_codec(first.codec, first.parameters, artefact)
            installed = _Installed(artefact)
            size = len(artefact.data) if artefact else 0
            # Typed as a codec: it encodes and decodes, and no more is asked of it.
            point = CodedPoint(installed, place.held, row["point"], size)  # type: ignore[arg-type]
            coded = place.runner.run(_Files(row["point"], folder, point, installed))
        except BitstreamError as error:
            return Checked(row, error=str(error))
        again = self._row(place, coded, row["provenance"])
        again["codec"] = first.codec
        if not math.isfinite(place.chance):
            # Where nothing scores by guessing, the board says what no features at all score.
            del again["chance"]
        return self._compared(row, again, place.held)

    def _place(self, result: Result) -> _Place:
        row = result.row
        key = (row["config"], row["profile"], row["mode"], *result.samples)
        if key not in self._places:
            whole = load_dataset(self._archive, row["config"], profile=row["profile"])
            said, manifest = row["provenance"], whole.manifest
            found = manifest.content_hash if isinstance(manifest, Manifest) else None
            if said.get("content_hash") != found:
                raise SampleError(
                    f"{result.file}: {row['config']} was measured on other features than those in "
                    f"{whole.store} (content_hash differs): name the right one with --archive"
                )
            if not result.samples:
                raise SampleError(
                    f"{result.file}: the Parquet file beside it is missing, which says what "
                    "samples were measured"
                )
            dataset = whole.subset(result.samples)
            setup = set_up(dataset, row["mode"], self._device, unscored=True)
            runner = setup.runner(dataset)
            uncoded, common = runner.run(Uncoded()), held(dataset, setup.keys)
            chance = setup.chance(dataset)
            self._places = {key: _Place(dataset, setup, runner, common, uncoded, chance)}
        return self._places[key]

    def _artefact(self, stream: Bitstream) -> Artefact | None:
        if not stream.artefact:
            return None
        if stream.artefact not in self._artefacts:
            raise SampleError(
                f"{stream.codec} needs the artefact of sha256 {stream.artefact.hex()}: name the "
                "folder that has it with --artefacts"
            )
        return self._artefacts[stream.artefact]

    def _row(self, place: _Place, coded: Measured, said: Mapping[str, Any]) -> dict[str, Any]:
        setup, results = place.setup, [replace(place.uncoded, figures={}), coded]
        measured(
            results,
            setup.score,
            setup.fidelity,
            figures=RATE_FIGURES,
            seed=int(said["bootstrap_seed"]),
            resamples=int(said["bootstrap_resamples"]),
        )
        parts = (setup.mode, setup.keys, results, setup.score or setup.no_score)
        return result_rows(place.dataset.manifest, *parts, setup.fidelity, place.chance)[1]

    def _compared(self, row: Mapping[str, Any], again: Mapping[str, Any], common: Held) -> Checked:
        # The bitstreams leave out what is held, so they don't tell what coding it would cost.
        untold = ("bpfp_all",) if common.prefix or common.keys else ()
        agreeing, differing = [], []
        for name, found in again.items():
            if name not in row or _figure(name) in untold:
                continue
            if self._same(name, row[name], found):
                agreeing.append(name)
            else:
                differing.append(Difference(name, row[name], found))
        left = [name for name in row if f"{name}_low" in row]
        left = [name for name in left if name not in again or name in untold]
        return Checked(row, agreeing, differing, left)

    def _same(self, name: str, said: Any, found: Any) -> bool:
        numbers = all(type(value) in (int, float) for value in (said, found))
        if not numbers:
            return bool(said == found)
        tolerance = ROUNDING if _figure(name) in EXACT else self._tolerance
        return math.isclose(said, found, rel_tol=tolerance, abs_tol=ROUNDING)


def _check_bootstrap(result: Result) -> None:
    """Refuse a row that doesn't say how its intervals were drawn, or claims a great many draws."""
    said = result.row["provenance"]
    seed, resamples = (said.get(f"bootstrap_{name}") for name in ("seed", "resamples"))
    if not (isinstance(seed, int) and isinstance(resamples, int)) or not (
        seed >= 0 and 0 < resamples <= MOST_RESAMPLES
    ):
        raise SampleError(
            f"{result.file}: {result.row['point']}: bootstrap_seed {seed!r} and "
            f"bootstrap_resamples {resamples!r}: needs whole numbers, of the latter at most "
            f"{MOST_RESAMPLES}"
        )


def _figure(column: str) -> str:
    return column.removesuffix("_low").removesuffix("_high")


def _read(path: Path) -> Bitstream:
    try:
        return read_bitstream(path.read_bytes())
    except OSError as error:
        raise BitstreamError(f"{path}: {error.strerror}") from None
    except BitstreamError as error:
        raise BitstreamError(f"{path}: {error}") from None
