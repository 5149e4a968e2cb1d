"""One scoring run: a config in a mode, uncoded and at some points."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lamofcbench.archive import DEFAULT_ARCHIVE
from lamofcbench.bench.points import Decoded, Point, Uncoded, Zeroed, parse_quantiser
from lamofcbench.bench.results import provenance, result_rows
from lamofcbench.bench.scoring import Measured, inert_keys, knockouts, measured
from lamofcbench.bench.setup import set_up
from lamofcbench.dataset import load_dataset
from lamofcbench.errors import SampleError
from lamofcbench.metrics.bootstrap import RESAMPLES

__all__ = ["ScoreRequest", "Scored", "score_config"]


@dataclass(frozen=True)
class ScoreRequest:
    """What to score.

    Attributes:
        config: its name.
        mode: whose keys are injected; the first without one.
        archive: as for `load_dataset`.
        profile: as for `load_dataset`.
        samples: as for `load_dataset`.
        quantisers: as for `parse_quantiser`.
        folders: of decoded features; see `Decoded`.
        knockout: whether to zero each key in turn, too.
        seed: of the bootstrap.
        device: where the model runs.
    """

    config: str
    mode: str | None = None
    archive: str = DEFAULT_ARCHIVE
    profile: str | None = None
    samples: str | None = None
    quantisers: tuple[str, ...] = ()
    folders: tuple[Path, ...] = ()
    knockout: bool = False
    seed: int = 0
    device: str = "cpu"


@dataclass(frozen=True)
class Scored:
    """What came of it.

    Attributes:
        rows: a result row per point; see `result_rows`. Those of knock-outs say in ``inert``
            whether nothing that can be told from chance changed.
        results: every sample's numbers per point.
    """

    rows: list[dict[str, Any]]
    results: list[Measured]


def score_config(
    request: ScoreRequest, start: Callable[[int], Callable[[], object]] = lambda _: lambda: None
) -> Scored:
    """Score a config's stored features, and what is made of them at each point.

    Args:
        request: what to score.
        start: takes how many back-half runs there will be; what it returns is called after each.

    Raises:
        ArchiveNotFoundError, UnknownNameError, SelectionError, IntegrityError: see `load_dataset`.
        ModelError: the model that made the features is not to be had.
        SampleError: a sample's features or reference are not right.
    """
    dataset = load_dataset(
        request.archive, request.config, profile=request.profile, samples=request.samples
    )
    if not len(dataset):
        raise SampleError(f"{request.config}: no samples to score: choose some with --samples")
    spec = dataset.manifest.declaration.mode(request.mode)
    axes = {key: dataset.axes(key) for key in spec.keys}
    points: list[Point] = [p for text in request.quantisers for p in parse_quantiser(text, axes)]
    points += [Decoded(folder) for folder in request.folders]
    points += knockouts(spec.keys) if request.knockout else []
    setup = set_up(dataset, request.mode, request.device)
    score, fidelity = setup.score, setup.fidelity
    chance = setup.chance(dataset)
    zeroed_stands_for_chance = score is not None and math.isnan(chance)
    if zeroed_stands_for_chance:
        points.append(Zeroed())
    runner = setup.runner(dataset)
    step = start(len(dataset) * (len(points) + 1))
    results = [runner.run(point, step) for point in (Uncoded(), *points)]
    measured(results, score, fidelity, seed=request.seed)
    if score is not None and zeroed_stands_for_chance:
        # Nothing scores by guessing here, so what is made of no features at all stands for it.
        chance = results[-1].figures[score.figures[0].name].value
    rows = result_rows(
        dataset.manifest,
        setup.mode,
        setup.keys,
        results,
        score or setup.no_score,
        fidelity,
        chance,
        provenance=provenance(dataset.manifest, request.seed, RESAMPLES),
    )
    single = {point.name for point in knockouts(spec.keys)}
    zeroed = [result for result in results if result.point in single]
    inert = inert_keys([results[0], *zeroed], fidelity, seed=request.seed)
    for row in rows:
        if row["point"] in inert:
            row["inert"] = inert[row["point"]]
    return Scored(rows, results)
