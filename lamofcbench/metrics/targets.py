"""The rate at which a curve reaches a target, with its bootstrap interval."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lamofcbench.metrics.bootstrap import LEVEL

__all__ = ["RateAt", "rate_at"]

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class RateAt:
    """A rate at a target.

    Attributes:
        rate: in the unit of the curve's rates; None if the points don't bracket the target.
        low: lower end of the 95 % interval; None where it lies beyond the points.
        high: upper end; likewise.
        reason: why there is no rate; empty if there is one.
    """

    rate: float | None
    low: float | None = None
    high: float | None = None
    reason: str = ""


def _crossings(logs: Floats, values: Floats, target: float, logarithmic: bool) -> Floats:
    """Where curves come down to a target for good, seen from the highest rate.

    Args:
        logs: [draws, points], of rates, ascending along a row.
        values: [draws, points], lower is better.
        target: what must not be exceeded.
        logarithmic: whether values are interpolated as logarithms where they can be.

    Returns:
        Logarithms of rates [draws]; -inf where all points are good enough, inf where the last is
        not.
    """
    draws, points = values.shape
    bad = values > target
    # The last point that is too bad; all above it are good enough.
    last = points - 1 - bad[:, ::-1].argmax(1)
    found = np.full(draws, -np.inf)
    found[bad[:, -1]] = np.inf
    rows = np.flatnonzero(bad.any(1) & ~bad[:, -1])
    before, after = last[rows], last[rows] + 1
    high, low = values[rows, before], values[rows, after]
    share = (high - target) / (high - low)
    if logarithmic and target > 0:
        known = low > 0
        ratio = np.log(high[known] / target) / np.log(high[known] / low[known])
        share[known] = ratio
    start, end = logs[rows, before], logs[rows, after]
    found[rows] = start + share * (end - start)
    return found


def rate_at(
    rates: Floats,
    values: Floats,
    target: float,
    drawn: tuple[Floats, Floats] | None = None,
    *,
    logarithmic: bool = False,
) -> RateAt:
    """Find the rate from which on a curve is no worse than a target.

    The logarithm of the rate is interpolated between the two points around the target. Where noise
    makes a curve cross it several times, the highest crossing counts. Nothing is extrapolated.

    Args:
        rates: [points], above 0, in any order.
        values: [points], lower is better: negate those of which higher is.
        target: what must not be exceeded.
        drawn: rates and values [draws, points] of resampled samples, for the interval.
        logarithmic: interpolate the logarithm of the value where it is above 0: for divergences
            and errors, which fall by orders of magnitude.
    """
    if not len(rates):
        return RateAt(None, reason="no points")
    order = np.argsort(rates, kind="stable")
    logs = np.log(rates[order])
    found = _crossings(logs[None], values[None, order], target, logarithmic)[0]
    if np.isposinf(found):
        return RateAt(None, reason=f"not reached at {rates.max():.4g}, the highest rate")
    if np.isneginf(found):
        return RateAt(None, reason=f"already reached at {rates.min():.4g}, the lowest rate")
    if drawn is None:
        return RateAt(float(np.exp(found)))
    order = np.argsort(drawn[0], axis=1, kind="stable")
    logs, drawn_values = (
        np.take_along_axis(part, order, 1) for part in (np.log(drawn[0]), drawn[1])
    )
    crossings = _crossings(logs, drawn_values, target, logarithmic)
    # Neighbours, not values between them: those of which one is infinite have none.
    low = np.quantile(crossings, (1 - LEVEL) / 2, method="lower")
    high = np.quantile(crossings, (1 + LEVEL) / 2, method="higher")
    ends = [float(np.exp(end)) if np.isfinite(end) else None for end in (low, high)]
    return RateAt(float(np.exp(found)), ends[0], ends[1])
