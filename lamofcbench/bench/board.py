"""The board: a grid of configs and codecs, run on all cores, and resumed where it was left.

Every config and mode has a part of its own beside the results, rewritten after each point. Rows of
a part, or of earlier results, that were made of the same features, samples and seed under the same
conditions are taken over as they are.
"""

import json
import math
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lamofcbench.bench.input_point import front_seconds
from lamofcbench.bench.plan import BenchRequest, Plan
from lamofcbench.bench.points import Zeroed
from lamofcbench.bench.processes import run_all
from lamofcbench.bench.rates import RATE_FIGURES, CodedPoint
from lamofcbench.bench.results import (
    git_commit,
    merge_results,
    provenance,
    result_rows,
    samples_path,
    write_results,
)
from lamofcbench.bench.scoring import Measured, Runner, headline, measured
from lamofcbench.bench.setup import Setup, set_up
from lamofcbench.bench.targets import Unreached
from lamofcbench.bench.timing import TIME_COLUMNS, latency, median_seconds, time_codec
from lamofcbench.dataset import load_dataset
from lamofcbench.errors import SampleError
from lamofcbench.interop.imported import check_scorable
from lamofcbench.metrics.bootstrap import RESAMPLES
from lamofcbench.scores.base import Figure
from lamofcbench.store.tables import read_parquet

__all__ = ["run_board", "run_part"]

FLOORS = ("fidelity_chance", "chance")
OWN_COLUMNS = {
    *("codec", "params", "fit", "target", "artefact_sha256", "git_commit"),
    *TIME_COLUMNS,
    *FLOORS,
}
"""Columns that are not made of samples' numbers."""


def _part(folder: Path, request: BenchRequest) -> Path:
    return folder / f"{request.config}.{request.mode or 'default'}.json"


def _parts(out: Path) -> Path:
    return out.with_suffix(".parts")


def _rows(path: Path) -> list[dict[str, Any]]:
    if not (path.is_file() and samples_path(path).is_file()):
        return []
    rows: list[dict[str, Any]] = json.loads(path.read_text("utf-8"))["rows"]
    return rows


def _finished(
    paths: Iterable[Path], same: Mapping[str, Any], samples: Sequence[str]
) -> tuple[list[Measured], dict[str, dict[str, Any]]]:
    """Find results that need not be made again.

    Args:
        paths: of results files; the first that has a point counts.
        same: columns that their rows must repeat.
        samples: ids that they must be of.

    Returns:
        The results, without totals; and each point's own columns.
    """
    found: dict[str, Measured] = {}
    columns: dict[str, dict[str, Any]] = {}
    for path in paths:
        wanted = {
            row["point"]: row
            for row in _rows(path)
            if all(row.get(name) == value for name, value in same.items())
            and row["point"] not in found
            and "codec" in row  # rows of a score have no rates
        }
        if not wanted:
            continue
        own = {name: same[name] for name in ("config", "profile", "mode")}.items()
        kept: dict[str, dict[str, dict[str, list[float]]]] = {}
        for line in read_parquet(samples_path(path)).to_pylist():
            if not own <= line.items():
                continue
            figures = kept.setdefault(line["point"], {})
            figures.setdefault(line["figure"], {})[line["sample"]] = line["numbers"]
        for point, row in wanted.items():
            figures = kept.get(point, {})
            if not figures or list(next(iter(figures.values()))) != list(samples):
                continue
            stacks = {n: np.array([rows[s] for s in samples]) for n, rows in figures.items()}
            found[point] = Measured(point, list(samples), stacks)
            columns[point] = {name: row[name] for name in row if name in OWN_COLUMNS}
    return list(found.values()), columns


def run_part(request: BenchRequest, folder: Path, earlier: Path) -> list[str]:
    """Run one config and mode, and leave its part.

    Args:
        request: what to run.
        folder: where parts are kept.
        earlier: results that may have some of the points.

    Returns:
        What was left out, and why: a line each.
    """
    dataset = load_dataset(
        request.archive, request.config, profile=request.profile, samples=request.samples
    )
    if not len(dataset):
        raise SampleError(f"{request.config}: no samples: choose some with --samples")
    setup = set_up(dataset, request.mode, request.device, unscored=True)
    if request.timed:
        check_scorable(dataset.config, dataset.manifest.declaration)
    runner, chance = setup.runner(dataset), setup.chance(dataset)
    source = provenance(dataset.manifest, request.seed, RESAMPLES)
    same = {"config": dataset.config, "profile": dataset.profile, "mode": setup.mode}
    path = _part(folder, request)
    ids = [item["id"] for item in dataset]
    results, columns = _finished((path, earlier), {**same, "provenance": source}, ids)
    if "uncoded" in columns:
        floors = {name: columns["uncoded"][name] for name in FLOORS}
    else:
        floors = _floors(runner, setup, chance)
    done = {result.point for result in results}
    left_out: list[str] = []
    front: float | None = None

    def write() -> None:
        # The uncoded result first, for the others are measured against it.
        results.sort(key=lambda result: result.point != "uncoded")
        measured(results, setup.score, setup.fidelity, figures=RATE_FIGURES, seed=request.seed)
        rows = result_rows(
            dataset.manifest,
            setup.mode,
            setup.keys,
            results,
            setup.score or setup.no_score,
            setup.fidelity,
            chance,
            provenance=source,
        )
        write_results(path, [row | columns[row["point"]] | floors for row in rows], results)

    for planned in Plan(request, setup, dataset, ids):
        again = request.timed and planned.coded and "link_10" not in columns.get(planned.label, {})
        if planned.label in done and not again:
            continue
        try:
            point, said = planned.make()
            if planned.label not in done:
                results.append(runner.run(point))
        except Unreached as error:
            left_out.append(f"{request.config}: {error}")
            continue
        except SampleError as error:
            if not planned.coded or not request.tolerant:
                raise
            left_out.append(f"{request.config}: {planned.label}: {error}")
            continue
        if request.timed and isinstance(point, CodedPoint):
            if request.inputs is not None and front is None:
                front = front_seconds(request.inputs, dataset, request.device)
            said |= _timed(point, dataset[0], setup, front, request.device)
        columns[planned.label] = {**said, "git_commit": git_commit()}
        write()
    write()
    return left_out


def _floors(runner: Runner, setup: Setup, chance: float) -> dict[str, float | None]:
    """What no features at all give: under these a curve says nothing.

    Args:
        runner: of the samples.
        setup: the config's.
        chance: the score of the best answer that never looks, if there is one.

    Returns:
        The headline fidelity of all keys zeroed; and ``chance``, or that score where it is none.
    """
    nothing = runner.run(Zeroed())

    def total(figure: Figure) -> float | None:
        rows = nothing.rows[figure.name]
        value = float(figure.totals(rows, np.ones((1, len(rows))))[0])
        return value if math.isfinite(value) else None

    score = setup.score
    guess = chance if score is None or math.isfinite(chance) else total(score.figures[0])
    return {
        "fidelity_chance": total(headline(setup.fidelity, nothing)),
        "chance": guess if guess is not None and math.isfinite(guess) else None,
    }


def _timed(
    point: CodedPoint, item: Mapping[str, Any], setup: Setup, front: float | None, device: str
) -> dict[str, Any]:
    features = {key: item["features"][key] for key in setup.keys}
    found = time_codec(point.codec, features, point.held, device)
    back = median_seconds(lambda: setup.family.back(features, item["context"], setup.mode), device)
    return {**found, **latency(found, front, back)}


def run_board(
    requests: Sequence[tuple[BenchRequest, Path]],
    workers: int,
    step: Callable[[], object] = lambda: None,
) -> tuple[list[dict[str, Any]], list[str]]:
    """Run a board and write its results.

    Results that are there already grow: rows of other configs and modes stay.

    Args:
        requests: one per config and mode, each with the results' JSON file that it goes to;
            per-sample rows lie beside that as Parquet, parts in a folder until all are done.
        workers: how many to run at a time.
        step: called after each.

    Returns:
        All rows; and what was left out, and why.
    """
    outs: dict[Path, list[Path]] = {}
    for request, out in requests:
        folder = _parts(out)
        folder.mkdir(parents=True, exist_ok=True)
        outs.setdefault(out, []).append(_part(folder, request))
    calls = [(request, _parts(out), out) for request, out in requests]
    left_out = [line for lines in run_all(run_part, calls, workers, step) for line in lines]
    rows: list[dict[str, Any]] = []
    for out, parts in outs.items():
        rows += merge_results(out, parts)
        shutil.rmtree(_parts(out))
    return rows, left_out
