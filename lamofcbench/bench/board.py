"""The board: a grid of configs and codecs, run on all cores, and resumed where it was left.

Every config and mode has a part of its own beside the results, rewritten after each codec. A part
whose rows were made of the same features, codec, samples and seed is taken over as it is.
"""

import concurrent.futures
import functools
import json
import multiprocessing
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from lamofcbench.bench.fits import fit_codec
from lamofcbench.bench.points import Point, Uncoded
from lamofcbench.bench.rates import RATE_FIGURES, CodedPoint, Held, held
from lamofcbench.bench.reference import reference_account
from lamofcbench.bench.results import (
    merge_results,
    provenance,
    result_rows,
    samples_path,
    write_results,
)
from lamofcbench.bench.scoring import Measured, measured
from lamofcbench.bench.setup import set_up
from lamofcbench.codecs import load_codec, parse_codec
from lamofcbench.dataset import FeatureDataset, load_dataset
from lamofcbench.errors import SampleError
from lamofcbench.metrics.bootstrap import RESAMPLES

__all__ = ["BenchRequest", "run_board"]


@dataclass(frozen=True)
class BenchRequest:
    """One config and mode of the board.

    Attributes:
        config: its name.
        codecs: as for `parse_codec`.
        fits: for codecs that are fitted, to what: see `fit_codec`.
        mode: whose keys are coded; the first without one.
        archive: as for `load_dataset`.
        profile: as for `load_dataset`.
        samples: as for `load_dataset`.
        seed: of the bootstrap.
        device: where the model runs.
    """

    config: str
    codecs: tuple[str, ...]
    fits: tuple[str, ...]
    mode: str | None
    archive: str
    profile: str | None
    samples: str | None
    seed: int
    device: str


def _part(folder: Path, request: BenchRequest) -> Path:
    return folder / f"{request.config}.{request.mode or 'default'}.json"


def _finished(path: Path, same: dict[str, Any]) -> tuple[list[dict[str, Any]], list[Measured]]:
    """Rows of a part that were made under the same conditions, with their samples' numbers."""
    if not (path.is_file() and samples_path(path).is_file()):
        return [], []
    rows = [
        row
        for row in json.loads(path.read_text("utf-8"))["rows"]
        if all(row["provenance"].get(name) == value for name, value in same.items())
    ]
    kept: dict[str, dict[str, dict[str, list[float]]]] = {}
    for line in pq.read_table(samples_path(path)).to_pylist():
        figures = kept.setdefault(line["point"], {})
        figures.setdefault(line["figure"], {})[line["sample"]] = line["numbers"]
    results = []
    for row in rows:
        figures = kept[row["point"]]
        samples = list(next(iter(figures.values())))
        stacks = {n: np.array([found[s] for s in samples]) for n, found in figures.items()}
        results.append(Measured(row["point"], samples, stacks))
    return rows, results


def _points(
    request: BenchRequest, common: Held, dataset: FeatureDataset, ids: list[str]
) -> Iterator[tuple[str, Callable[[], Point]]]:
    """Names of a request's points, and what makes each: fitting takes time."""
    yield "uncoded", Uncoded
    for text in request.codecs:
        codec, artefact = load_codec(text)
        if artefact is not None:
            # Files of one name are told apart by their content.
            spec, _, path = text.partition("@")
            kind = artefact.about.get("fit", "own")
            label = f"{spec}@{kind}:{Path(path).stem}#{artefact.sha256.hex()[:8]}"
            account = reference_account(dataset, ids, codec)
            made = functools.partial(CodedPoint, codec, common, label, len(artefact.data), account)
            yield label, made
            continue
        for fit in request.fits if codec.fitted else ("",):
            label = f"{text}@{fit}" if fit else text
            yield label, functools.partial(_coded, request, common, text, fit, label)


def _coded(request: BenchRequest, common: Held, text: str, fit: str, label: str) -> CodedPoint:
    if not fit:
        return CodedPoint(parse_codec(text), common, label)
    where = (request.archive, request.config, request.profile, request.mode)
    artefact = fit_codec(parse_codec(text), fit, *where)
    return CodedPoint(parse_codec(text, artefact), common, label, len(artefact.data))


def run_part(request: BenchRequest, folder: Path) -> Path:
    """Run one config and mode, and leave its part.

    Args:
        request: what to run.
        folder: where parts are kept.

    Returns:
        The part's path.
    """
    dataset = load_dataset(
        request.archive, request.config, profile=request.profile, samples=request.samples
    )
    if not len(dataset):
        raise SampleError(f"{request.config}: no samples: choose some with --samples")
    setup = set_up(dataset, request.mode, request.device)
    runner, chance = setup.runner(dataset), setup.chance(dataset)
    ids = [item["id"] for item in dataset]
    same = provenance(dataset.manifest, request.seed, RESAMPLES)
    path = _part(folder, request)
    _, results = _finished(path, same)
    results = [result for result in results if result.samples == ids]
    done = {result.point for result in results}
    common = held(dataset, setup.keys)
    for label, point in _points(request, common, dataset, ids):
        if label in done:
            continue
        results.append(runner.run(point()))
        # The uncoded result first, for the others are measured against it.
        results.sort(key=lambda result: result.point != "uncoded")
        measured(results, setup.score, setup.fidelity, figures=RATE_FIGURES, seed=request.seed)
        rows = result_rows(
            dataset.manifest,
            setup.mode,
            setup.keys,
            results,
            setup.score,
            setup.fidelity,
            chance,
            provenance=same,
        )
        for row in rows:
            text, _, fit = row["point"].partition("@")
            name, _, parameters = text.partition(":")
            fit = fit.partition(":")[0]
            row |= {"codec": name, "params": parameters, "fit": fit or "none"}
        write_results(path, rows, results)
    return path


def run_board(
    requests: Sequence[BenchRequest],
    out: Path,
    workers: int,
    step: Callable[[], object] = lambda: None,
) -> list[dict[str, Any]]:
    """Run a board and write its results.

    Args:
        requests: one per config and mode.
        out: the results' JSON file; per-sample rows lie beside it as Parquet, parts in a folder
            beside it until all are done.
        workers: how many to run at a time.
        step: called after each.

    Returns:
        All rows.
    """
    folder = out.with_suffix(".parts")
    folder.mkdir(parents=True, exist_ok=True)
    if workers == 1 or len(requests) == 1:
        for request in requests:
            run_part(request, folder)
            step()
    else:
        # Fresh processes: torch's threads do not survive a fork.
        context = multiprocessing.get_context("spawn")
        with concurrent.futures.ProcessPoolExecutor(workers, context) as pool:
            futures = [pool.submit(run_part, request, folder) for request in requests]
            for future in concurrent.futures.as_completed(futures):
                future.result()
                step()
    rows = merge_results(out, [_part(folder, request) for request in requests])
    shutil.rmtree(folder)
    return rows
