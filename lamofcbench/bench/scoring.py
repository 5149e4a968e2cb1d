"""Scores and fidelity of features, as stored or as decoded, through the back half.

Needs the archive and the model: never the source data set, nor the front half's weights where a
mode does without them.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from lamofcbench.bench.points import Point, Uncoded, Zeroed, checked
from lamofcbench.dataset import FeatureDataset
from lamofcbench.errors import SampleError
from lamofcbench.metrics.bootstrap import RESAMPLES, Interval, Rows, interval, resampled
from lamofcbench.models.base import Family
from lamofcbench.models.tokens import TokenFamily
from lamofcbench.scores.base import Answer, Fidelity, Figure, Score

__all__ = [
    "Inspector",
    "Measured",
    "evaluate",
    "headline",
    "inert_keys",
    "knockouts",
    "measured",
]

Inspector = Callable[[Answer, Answer], Answer]
"""Adds to an answer, given the uncoded one, what a score needs of both: features of images."""


@dataclass
class Measured:
    """One point's figures over a set of samples.

    Attributes:
        point: its name.
        samples: ids, in order.
        rows: numbers [samples, k] by figure.
        figures: totals with their intervals, by figure.
        loss: by how much the score is worse than the uncoded one, from paired draws; below 0 if it
            is better.
    """

    point: str
    samples: list[str]
    rows: dict[str, Rows]
    figures: dict[str, Interval] = field(default_factory=dict)
    loss: Interval | None = None


def _answer(
    family: Family, features: Mapping[str, torch.Tensor], item: Mapping[str, Any], mode: str
) -> Answer:
    """What a back half says; text without its continuation."""
    output = family.back(features, item["context"], mode)
    return Answer(output.prediction, output.logits)


def _forced(
    family: Family,
    features: Mapping[str, torch.Tensor],
    item: Mapping[str, Any],
    mode: str,
    tokens: torch.Tensor | None,
) -> Any:
    if tokens is None or not isinstance(family, TokenFamily):
        return None
    return family.forced(features, item["context"], tokens, mode)


def evaluate(
    dataset: FeatureDataset,
    family: Family,
    mode: str,
    points: Sequence[Point],
    score: Score,
    fidelity: Fidelity,
    *,
    inspector: Inspector | None = None,
    step: Callable[[], object] = lambda: None,
) -> list[Measured]:
    """Run points through the back half, sample by sample.

    Args:
        dataset: an archive's samples; those of one split.
        family: the model, with the half that the mode needs.
        mode: whose keys are decoded and injected.
        points: what to do to the features. The uncoded features come first by themselves.
        score: against references.
        fidelity: against the uncoded answers.
        inspector: see `Inspector`.
        step: called after each sample of each point.

    Returns:
        The uncoded features' rows, then those of each point; no totals yet.

    Raises:
        SampleError: there are no samples, or one's decoded features or reference are not right; the
            message names it.
    """
    everything: list[Point] = [Uncoded(), *points]
    results = [Measured(point.name, [], {}) for point in everything]
    collected: list[dict[str, list[Any]]] = [{} for _ in everything]
    keys = family.profile.mode(mode).keys
    for item in dataset:
        sample = item["id"]
        stored = {key: item["features"][key] for key in keys}
        tokens = None
        if isinstance(family, TokenFamily):
            tokens = family.continuation(stored, item["context"], mode)
        uncoded: Answer | None = None
        for point, result, rows in zip(everything, results, collected, strict=True):
            features = checked(sample, point(sample, dict(stored)), stored)
            answer = _answer(family, features, item, mode)
            forced = _forced(family, features, item, mode, tokens)
            answer = Answer(answer.prediction, answer.logits, forced)
            uncoded = answer if uncoded is None else uncoded
            try:
                numbers = dict(fidelity.compare(uncoded, answer))
                inspected = answer if inspector is None else inspector(uncoded, answer)
                numbers |= score.measure(inspected, item["reference"], item["context"])
            except SampleError as error:
                raise SampleError(f"{sample}: {error}") from None
            result.samples.append(sample)
            for name, row in numbers.items():
                rows.setdefault(name, []).append(np.asarray(row, np.float64))
            step()
    if not results[0].samples:
        raise SampleError("no samples to score: the selection is empty, or all were skipped")
    for result, rows in zip(results, collected, strict=True):
        result.rows = {name: np.stack(stack) for name, stack in rows.items()}
    return results


def measured(
    results: Sequence[Measured],
    score: Score,
    fidelity: Fidelity,
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> list[Measured]:
    """Total the rows that `evaluate` gives, with paired bootstrap intervals.

    Args:
        results: the uncoded one first.
        score: as for `evaluate`.
        fidelity: as for `evaluate`.
        seed: of the draws, which are the same for all points.
        resamples: how many.
    """
    uncoded = results[0]
    weights = resampled(len(uncoded.samples), seed, resamples)
    for result in results:
        for figure in (*score.figures, *fidelity.figures):
            if figure.name in result.rows:
                result.figures[figure.name] = interval(
                    figure.totals, result.rows[figure.name], weights
                )
        first = score.figures[0]
        worse = interval(
            first.totals, result.rows[first.name], weights, against=uncoded.rows[first.name]
        )
        result.loss = worse if not first.higher_is_better else _negative(worse)
    return list(results)


def _negative(difference: Interval) -> Interval:
    return Interval(-difference.value + 0.0, -difference.high + 0.0, -difference.low + 0.0)


def headline(fidelity: Fidelity, result: Measured) -> Figure:
    """The figure that ranks codecs: the first that this mode's answers have."""
    return next(figure for figure in fidelity.figures if figure.name in result.rows)


def inert_keys(
    results: Sequence[Measured], fidelity: Fidelity, *, seed: int = 0, resamples: int = RESAMPLES
) -> dict[str, bool]:
    """Say which keys change nothing that can be told from chance when they are zeroed.

    Args:
        results: of `evaluate` on `knockouts`, the uncoded one first.
        fidelity: whose headline must move.
        seed: of the draws.
        resamples: how many.

    Returns:
        By point, whether the interval of what it does to the headline holds 0.
    """
    uncoded, figure = results[0], headline(fidelity, results[0])
    weights = resampled(len(uncoded.samples), seed, resamples)
    inert = {}
    for result in results[1:]:
        moved = interval(
            figure.totals, result.rows[figure.name], weights, against=uncoded.rows[figure.name]
        )
        inert[result.point] = moved.low <= 0 <= moved.high
    return inert


def knockouts(keys: Sequence[str]) -> Iterator[Zeroed]:
    """A point per key that zeroes it alone."""
    return (Zeroed((key,)) for key in keys)
