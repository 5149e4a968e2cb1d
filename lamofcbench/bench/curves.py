"""Results files read back: points of codecs put together into curves, one set a config and mode."""

import json
import math
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from lamofcbench.bench.results import samples_path
from lamofcbench.errors import SampleError, UnknownNameError
from lamofcbench.metrics.bootstrap import Rows
from lamofcbench.store.tables import read_parquet

__all__ = [
    "RATE",
    "Board",
    "Curve",
    "Result",
    "curve_name",
    "find_anchor",
    "point_setting",
    "read_boards",
    "read_results",
]

RATE = "bpfp"
UNCODED = "uncoded"
TEXTS = ("config", "profile", "mode", "point", "headline")
RATE_PARAMETERS = frozenset(
    ("bin", "bits", "distance", "kbps", "lambda", "level", "levels", "lmbda")
) | frozenset(("qp", "quality", "rate", "step", "tolerance"))
"""Parameters that move a codec along its curve; the others make another codec of it."""


@dataclass(frozen=True)
class Result:
    """One row of a results file.

    Attributes:
        row: as it is written there.
        samples: ids, in the order of the rows of ``stacks``; none if the Parquet file is missing.
        stacks: numbers [samples, k] by figure.
        file: where it was read.
    """

    row: Mapping[str, Any]
    samples: tuple[str, ...]
    stacks: Mapping[str, Rows]
    file: Path

    def stack(self, figure: str) -> Rows:
        """Every sample's numbers of a figure.

        Raises:
            SampleError: they are not in the Parquet file.
        """
        if figure not in self.stacks:
            raise SampleError(
                f"{samples_path(self.file)}: lacks {figure} of {self.row['point']} by sample"
            )
        return self.stacks[figure]


@dataclass
class Curve:
    """Points of one codec, from the lowest rate to the highest.

    Attributes:
        name: the codec, what else it was given, and what it was fitted to.
        points: its results.
    """

    name: str
    points: list[Result] = field(default_factory=list)

    def column(self, name: str) -> list[float | None]:
        """One column of all points."""
        return [point.row.get(name) for point in self.points]


@dataclass
class Board:
    """All that was measured in one config, profile and mode.

    Attributes:
        config: its name.
        profile: which weights.
        mode: whose keys.
        uncoded: the result that others are measured against.
        curves: by name.
        others: results without a rate, such as knock-outs.
    """

    config: str
    profile: str
    mode: str
    uncoded: Result
    curves: dict[str, Curve] = field(default_factory=dict)
    others: list[Result] = field(default_factory=list)

    @property
    def title(self) -> str:
        """Config, profile and mode."""
        return f"{self.config}, profile {self.profile}, mode {self.mode}"

    def curve(self, name: str) -> Curve | None:
        """Find a curve by its name, or by its codec's name if that has one curve alone."""
        if name in self.curves:
            return self.curves[name]
        found = [c for c in self.curves.values() if c.points[0].row.get("codec") == name]
        return found[0] if len(found) == 1 else None


def curve_name(row: Mapping[str, Any]) -> str:
    """Name the curve that a row is a point of, such as ``kmeans@own``."""
    parameters = [item for item in str(row.get("params") or "").split(",") if item]
    kept = [item for item in parameters if item.partition("=")[0] not in RATE_PARAMETERS]
    name = f"{row.get('codec') or row['point']}{':' if kept else ''}{','.join(kept)}"
    fit = row.get("fit") or "none"
    return name if fit == "none" else f"{name}@{fit}"


def point_setting(row: Mapping[str, Any]) -> str:
    """The setting that tells a point from the others of its curve, such as ``4`` of ``bits=4``."""
    items = (item.partition("=") for item in str(row.get("params") or "").split(","))
    return ",".join(value for name, _, value in items if name in RATE_PARAMETERS)


def read_results(path: Path) -> list[Result]:
    """Read a results file, and the numbers of every sample beside it.

    Raises:
        SampleError: it is missing, or no results file; or what lies beside it can't be read.
    """
    try:
        rows = json.loads(path.read_text("utf-8"))["rows"]
        faults = [fault for row in rows for fault in _faults(row)]
        if faults or not rows:
            raise KeyError(faults[0] if faults else "rows")
    except OSError as error:
        raise SampleError(f"{path} cannot be read: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise SampleError(
            f"{path} is no results file of `lamofcbench bench`: lacks {error}"
        ) from None
    stacks = _stacks(samples_path(path)) if samples_path(path).is_file() else {}
    results = []
    for row in rows:
        figures = stacks.get((row["config"], row["profile"], row["mode"], row["point"]), {})
        ids = tuple(next(iter(figures.values()), {}))
        arrays = {}
        for name, found in figures.items():
            if set(found) != set(ids) or len({len(numbers) for numbers in found.values()}) > 1:
                raise SampleError(f"{samples_path(path)}: {name} lacks some samples")
            arrays[name] = np.array([found[one] for one in ids], np.float64)
        results.append(Result(row, ids, arrays, path))
    return results


def _faults(row: Any) -> Iterator[str]:
    """Say what makes a row none of a results file."""
    yield from (name for name in TEXTS if not isinstance(row.get(name), str))
    for name in ("samples", "provenance"):
        if not isinstance(row.get(name), int if name == "samples" else dict):
            yield name
    for name in (RATE, "mse", "rel_mse", "score", "score_loss", "fidelity", "fidelity_chance"):
        for column in (name, f"{name}_low", f"{name}_high"):
            value = row.get(column)
            if not (value is None or (isinstance(value, int | float) and math.isfinite(value))):
                yield f"a number for {column}"
    if (row.get(RATE) or 1) <= 0:
        yield f"a {RATE} above 0"


Stacks = dict[tuple[str, ...], dict[str, dict[str, list[float]]]]


def _stacks(path: Path) -> Stacks:
    names = ("config", "profile", "mode", "point", "figure", "sample", "numbers")
    stacks: Stacks = {}
    try:
        columns = [read_parquet(path, names)[name].to_pylist() for name in names]
    except (OSError, KeyError, pa.ArrowException) as error:
        raise SampleError(f"{path} cannot be read: {str(error).splitlines()[0]}") from None
    for *key, figure, sample, numbers in zip(*columns, strict=True):
        stacks.setdefault(tuple(key), {}).setdefault(figure, {})[sample] = numbers
    return stacks


def read_boards(paths: Sequence[Path]) -> list[Board]:
    """Read results files and sort their points into curves.

    Curves that several files have under one name are told apart by the file's name.

    Raises:
        SampleError: a file is malformed; or two were measured on other features, samples or
            conditions, so that comparing them would mean nothing.
    """
    boards: dict[tuple[str, str, str], list[Result]] = {}
    for path in dict.fromkeys(paths):
        for result in read_results(path):
            row = result.row
            boards.setdefault((row["config"], row["profile"], row["mode"]), []).append(result)
    return [_board(key, results) for key, results in boards.items()]


def _board(key: tuple[str, str, str], results: Sequence[Result]) -> Board:
    uncoded = [result for result in results if result.row["point"] == UNCODED]
    if not uncoded:
        raise SampleError(f"{results[0].file}: {key[0]} has no row of uncoded features")
    first = uncoded[0]
    for result in results:
        _check_alike(first, result)
    board = Board(*key, first)
    files: dict[str, set[Path]] = {}
    coded = [result for result in results if result.row.get(RATE) is not None]
    for result in coded:
        files.setdefault(curve_name(result.row), set()).add(result.file)
    labels = _labels({file for found in files.values() for file in found})
    for result in coded:
        name = curve_name(result.row)
        if len(files[name]) > 1:
            name = f"{name} ({labels[result.file]})"
        board.curves.setdefault(name, Curve(name)).points.append(result)
    for curve in board.curves.values():
        curve.points.sort(key=lambda result: float(result.row[RATE]))
    board.others = [r for r in results if r.row.get(RATE) is None and r.row["point"] != UNCODED]
    return board


def _labels(files: Collection[Path]) -> dict[Path, str]:
    """Short names of files, and whole paths where those aren't unique."""
    stems = Counter(file.stem for file in files)
    return {file: file.stem if stems[file.stem] == 1 else str(file) for file in files}


def _check_alike(first: Result, other: Result) -> None:
    where = f"{first.file} and {other.file}" if first.file != other.file else f"{first.file}"
    what = f"{where}: {first.row['config']}, {first.row['mode']}:"
    for name in ("content_hash", "conditions_sha256", "model_revision"):
        if first.row["provenance"].get(name) != other.row["provenance"].get(name):
            raise SampleError(f"{what} {name} differs, so these results cannot be compared")
    if first.row["samples"] != other.row["samples"] or first.samples != other.samples:
        raise SampleError(f"{what} measured on other samples, so these cannot be compared")


def find_anchor(boards: Sequence[Board], name: str) -> None:
    """Check that some board has an anchor.

    Raises:
        UnknownNameError: none has; near matches are listed.
    """
    if not any(board.curve(name) for board in boards):
        known = {curve for board in boards for curve in board.curves}
        raise UnknownNameError("codec", name, known)
