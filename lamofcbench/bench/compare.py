"""Codecs side by side: rates at which they reach fixed targets, and delta rates to an anchor."""

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lamofcbench.bench.curves import RATE, Board, Curve, Result
from lamofcbench.errors import SampleError
from lamofcbench.metrics.bd import Delta, bd_rate
from lamofcbench.metrics.bootstrap import resampled
from lamofcbench.metrics.targets import RateAt, rate_at
from lamofcbench.scores import load_fidelity, load_score
from lamofcbench.scores.base import Figure, mean
from lamofcbench.spec import load_scenario

__all__ = ["SCORE_LOSS", "Target", "compare_board", "targets"]

KL = ("kl_rest", "kl_first", "kl")
KL_TARGET = 0.01
FIDELITY_TARGET = 0.99
SCORE_LOSS = "score_loss"
LOSS_SHARE = 0.01
UNBOUNDED = ("depth", "fid")
"""Metrics that are no shares, so that a loss of 1 % is one of the uncoded score."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Target:
    """What a codec should reach.

    Attributes:
        name: a column of results.
        value: what it must not exceed, or not fall below.
        figure: how it is totalled over samples.
        higher_is_better: whether it must not fall below.
        loss: whether it is by how much the figure is worse than uncoded.
    """

    name: str
    value: float
    figure: Figure
    higher_is_better: bool
    loss: bool = False

    @property
    def title(self) -> str:
        """In tables, such as ``kl_rest <= 0.01``."""
        return f"{self.name} {'>=' if self.higher_is_better else '<='} {self.value:.4g}"


def targets(board: Board) -> list[Target]:
    """Say what codecs are compared at: a divergence, the headline fidelity, and a loss of score."""
    metric = load_scenario(board.config).metric
    figures = {figure.name: figure for figure in load_fidelity(metric).figures}
    row = board.uncoded.row
    found = []
    for name in KL:
        if name in figures and row.get(name) is not None:
            found.append(Target(name, KL_TARGET, figures[name], False))
            break
    if row["headline"] not in figures:
        raise SampleError(
            f"{board.config}: {row['no_score'] or 'measured without a model'}: "
            "codecs are compared at what a model still gets right"
        )
    headline = figures[row["headline"]]
    found.append(Target(headline.name, FIDELITY_TARGET, headline, headline.higher_is_better))
    if row.get("score") is None:
        return found
    loss = LOSS_SHARE * (abs(row["score"]) if metric in UNBOUNDED else 1.0)
    score: Figure = load_score(metric, board.config, board.profile).figures[0]
    found.append(Target(SCORE_LOSS, loss, score, False, loss=True))
    return found


def compare_board(
    board: Board,
    anchor: str | None = None,
    *,
    rate: str = RATE,
    seed: int = 0,
    resamples: int = 1000,
) -> list[dict[str, Any]]:
    """Compare the codecs of one config and mode.

    Args:
        board: what was measured.
        anchor: the curve that delta rates are to; none without one.
        rate: which column is the rate.
        seed: of the bootstrap; the same draws for all codecs.
        resamples: of the bootstrap.

    Returns:
        A row per codec: ``targets`` by name, each with its value, rate, interval and, where there
        is no rate, the reason; ``bd_fidelity`` and ``bd_mse`` in percent with their reasons.

    Raises:
        SampleError: the file of every sample's numbers is missing, or lacks the rate.
    """
    wanted = targets(board)
    if not board.uncoded.samples:
        raise SampleError(
            f"{board.uncoded.file}: the Parquet file beside it is missing, which has the numbers "
            "of every sample; without it there are no intervals"
        )
    weights = resampled(len(board.uncoded.samples), seed, resamples)
    base = board.curve(anchor) if anchor is not None else None
    rows = []
    for curve in board.curves.values():
        row: dict[str, Any] = {
            "config": board.config,
            "profile": board.profile,
            "mode": board.mode,
            "codec": curve.name,
            "points": len(curve.points),
            "samples": len(board.uncoded.samples),
            "rate": rate,
            "targets": {},
        }
        for target in wanted:
            at = _rate_at(board, curve, target, rate, weights)
            row["targets"][target.name] = {"value": target.value, **asdict(at)}
        if anchor is not None:
            row |= {"anchor": base.name if base else anchor, **_deltas(board, base, curve, rate)}
        rows.append(row)
    return rows


def _rates(curve: Curve, rate: str) -> list[float]:
    rates = curve.column(rate)
    if any(value is None or value <= 0 for value in rates):
        raise SampleError(f"{curve.points[0].file}: {curve.name} has no rate {rate!r} above 0")
    return [float(value) for value in rates if value is not None]


def _rate_at(board: Board, curve: Curve, target: Target, rate: str, weights: Floats) -> RateAt:
    sign = -1.0 if target.higher_is_better else 1.0
    values = curve.column(target.name)
    rates = _rates(curve, rate)
    if any(value is None for value in values):
        return RateAt(None, reason=f"{target.name} was not measured")
    if target.loss and not target.value:
        return RateAt(None, reason="the uncoded score is 0, of which 1 % is nothing")
    total = _total(board.uncoded, target, weights)
    drawn_rates, drawn_values = [], []
    for point in curve.points:
        drawn_rates.append(mean(point.stack(rate), weights))
        drawn_values.append(sign * total(point))
    return rate_at(
        np.array(rates),
        sign * np.array(values, np.float64),
        sign * target.value,
        (np.stack(drawn_rates, 1), np.stack(drawn_values, 1)),
        logarithmic=target.name in KL,
    )


def _total(uncoded: Result, target: Target, weights: Floats) -> Callable[[Result], Floats]:
    """What totals a point under the draws."""
    figure, totals = target.figure, target.figure.totals
    once = np.ones((1, weights.shape[1]))

    def drawn(result: Result) -> Floats:
        return totals(result.stack(figure.name), weights)

    if not target.loss:
        return drawn
    sign = -1.0 if figure.higher_is_better else 1.0
    base = drawn(uncoded)

    def loss(result: Result) -> Floats:
        found = sign * (drawn(result) - base)
        if figure.recentred:
            both = (totals(one.stack(figure.name), once)[0] for one in (result, uncoded))
            value = sign * (next(both) - next(both))
            found = found + value - found.mean()
        return found

    return loss


def _deltas(board: Board, anchor: Curve | None, curve: Curve, rate: str) -> dict[str, Any]:
    if anchor is None:
        found = {name: Delta(None, "there is no anchor here") for name in ("fidelity", "mse")}
    else:
        floor = board.uncoded.row.get("fidelity_chance")
        found = {
            "fidelity": bd_rate(
                _fidelity(anchor, rate),
                _fidelity(curve, rate),
                0.0 if floor is None else floor,
                board.uncoded.row["fidelity"],
            ),
            "mse": bd_rate(_mse(anchor, rate), _mse(curve, rate)),
        }
    columns: dict[str, Any] = {}
    for name, delta in found.items():
        columns |= {f"bd_{name}": delta.percent, f"bd_{name}_reason": delta.reason}
    return columns


def _fidelity(curve: Curve, rate: str) -> tuple[Sequence[float], Sequence[float]]:
    pairs = zip(_rates(curve, rate), curve.column("fidelity"), strict=True)
    known = [(one, value) for one, value in pairs if value is not None]
    return [one for one, _ in known], [value for _, value in known]


def _mse(curve: Curve, rate: str) -> tuple[Sequence[float], Sequence[float]]:
    """Rates and negated logarithms of the mean squared error.

    Left out are points without an error, whose logarithm isn't finite, and those that are no better
    than zeros, whose relative error is 1.
    """
    columns = (_rates(curve, rate), curve.column("mse"), curve.column("rel_mse"))
    known = [
        (one, -math.log(mse))
        for one, mse, relative in zip(*columns, strict=True)
        if mse is not None and mse > 0 and (relative is None or relative < 1)
    ]
    return [one for one, _ in known], [value for _, value in known]
