"""Scores and fidelity of features, as stored or as decoded, through the back half.

Needs the archive and the model: never the source data set, nor the front half's weights where a
mode does without them.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from lamofcbench.bench.points import Counting, Point, Zeroed, checked
from lamofcbench.dataset import FeatureDataset
from lamofcbench.errors import SampleError
from lamofcbench.metrics.bootstrap import RESAMPLES, Interval, Rows, interval, resampled
from lamofcbench.models.base import Family
from lamofcbench.models.tokens import TokenFamily
from lamofcbench.scores.base import Answer, Fidelity, Figure, Score

__all__ = [
    "Inspector",
    "Measured",
    "Runner",
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


class Runner:
    """Runs points through the back half, sample by sample.

    What the uncoded features give is computed once, and kept for all points.
    """

    def __init__(
        self,
        dataset: FeatureDataset,
        family: Family,
        mode: str,
        score: Score | None,
        fidelity: Fidelity,
        inspector: Inspector | None = None,
    ) -> None:
        """Prepare a run.

        Args:
            dataset: an archive's samples; those of one split.
            family: the model, with the half that the mode needs.
            mode: whose keys are decoded and injected.
            score: against references; None where it cannot be had.
            fidelity: against the uncoded answers.
            inspector: see `Inspector`.
        """
        self.dataset = dataset
        self.family = family
        self.mode = mode
        self.score = score
        self.fidelity = fidelity
        self._inspector = inspector
        self._keys = family.profile.mode(mode).keys
        self._uncoded: dict[str, Answer] = {}
        self._tokens: dict[str, torch.Tensor] = {}

    def run(self, point: Point, step: Callable[[], object] = lambda: None) -> Measured:
        """Run one point.

        Args:
            point: what to do to the features.
            step: called after each sample.

        Returns:
            Every sample's rows; no totals yet.

        Raises:
            SampleError: there are no samples, or one's decoded features or reference are not right;
                the message names it.
        """
        samples: list[str] = []
        rows: dict[str, list[Any]] = {}
        for item in self.dataset:
            sample = item["id"]
            try:
                numbers = self._numbers(point, item)
            except SampleError as error:
                raise SampleError(f"{sample}: {error}") from None
            samples.append(sample)
            for name, row in numbers.items():
                rows.setdefault(name, []).append(np.asarray(row, np.float64))
            step()
        if not samples:
            raise SampleError("no samples to score: the selection is empty, or all were skipped")
        return Measured(point.name, samples, {name: np.stack(rows[name]) for name in rows})

    def _numbers(self, point: Point, item: Mapping[str, Any]) -> dict[str, Any]:
        sample = item["id"]
        stored = {key: item["features"][key] for key in self._keys}
        if sample not in self._uncoded:
            if isinstance(self.family, TokenFamily):
                self._tokens[sample] = self.family.continuation(stored, item["context"], self.mode)
            self._uncoded[sample] = self._answer(item, stored)
        uncoded = self._uncoded[sample]
        features = checked(point(sample, dict(stored)), stored)
        answer = self._answer(item, features)
        numbers = dict(self.fidelity.compare(uncoded, answer))
        if self.score is not None:
            inspected = answer if self._inspector is None else self._inspector(uncoded, answer)
            numbers |= self.score.measure(inspected, item["reference"], item["context"])
        return {**numbers, **(point.numbers() if isinstance(point, Counting) else {})}

    def _answer(self, item: Mapping[str, Any], features: Mapping[str, torch.Tensor]) -> Answer:
        output = self.family.back(features, item["context"], self.mode)
        forced = None
        if isinstance(self.family, TokenFamily):
            tokens = self._tokens[item["id"]]
            forced = self.family.forced(features, item["context"], tokens, self.mode)
        return Answer(output.prediction, output.logits, forced)


def measured(
    results: Sequence[Measured],
    score: Score | None,
    fidelity: Fidelity,
    *,
    figures: Sequence[Figure] = (),
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> list[Measured]:
    """Total the rows that `Runner.run` gives, with paired bootstrap intervals.

    Args:
        results: the uncoded one first; those that have totals keep them.
        score: as for `Runner`.
        fidelity: as for `Runner`.
        figures: of what points count themselves.
        seed: of the draws, which are the same for all points.
        resamples: how many.
    """
    uncoded = results[0]
    weights = resampled(len(uncoded.samples), seed, resamples)
    for result in results:
        if result.figures:
            continue
        for figure in (*(score.figures if score else ()), *fidelity.figures, *figures):
            if figure.name in result.rows:
                result.figures[figure.name] = interval(
                    figure.totals,
                    result.rows[figure.name],
                    weights,
                    recentred=figure.recentred,
                )
        if score is None:
            continue
        first = score.figures[0]
        worse = interval(
            first.totals,
            result.rows[first.name],
            weights,
            against=uncoded.rows[first.name],
            recentred=first.recentred,
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
        results: of `Runner.run` on `knockouts`, the uncoded one first.
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
