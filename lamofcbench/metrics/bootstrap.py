"""Bootstrap intervals over samples.

Of a hundred samples one answer is a hundredth, so no figure stands without its interval. Samples
are resampled, never tokens or pixels, which are not independent of one another. Figures that are to
be compared are resampled together (paired).
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["LEVEL", "RESAMPLES", "Interval", "Rows", "Totals", "interval", "resampled"]

RESAMPLES = 1000
LEVEL = 0.95

Rows = NDArray[np.float64]
"""Numbers [samples, k] from which a figure is totalled, a row per sample."""
Totals = Callable[[Rows, NDArray[np.float64]], NDArray[np.float64]]
"""Totals rows under weights [resamples, samples], how often each sample is drawn: [resamples]."""


@dataclass(frozen=True)
class Interval:
    """A figure and its 95 % percentile interval."""

    value: float
    low: float
    high: float


def resampled(samples: int, seed: int = 0, resamples: int = RESAMPLES) -> NDArray[np.float64]:
    """Draw with replacement, many times.

    Args:
        samples: how many there are.
        seed: the same seed draws the same.
        resamples: how many times to draw as many samples as there are.

    Returns:
        float64 [resamples, samples]: how often each was drawn.

    Raises:
        ValueError: there are no samples.
    """
    if samples < 1:
        raise ValueError("no samples")
    random = np.random.default_rng(seed)
    return random.multinomial(samples, np.full(samples, 1 / samples), resamples).astype(np.float64)


def interval(
    totals: Totals,
    rows: Rows,
    weights: NDArray[np.float64],
    against: Rows | None = None,
    *,
    recentred: bool = False,
) -> Interval:
    """Total a figure, and say how far it may be off.

    Args:
        totals: how to total it.
        rows: [samples, k].
        weights: from `resampled`, for as many samples.
        against: rows of the same samples; what is returned is then the difference of the two
            figures, its interval from the same draws of both.
        recentred: move the interval so that the draws' mean falls on the value. For figures that
            samples drawn twice make larger, such as distances of sets.

    Raises:
        ValueError: there are no samples.
    """
    if not len(rows):
        raise ValueError("no samples")
    once = np.ones((1, len(rows)))
    value, drawn = totals(rows, once)[0], totals(rows, weights)
    if against is not None:
        value = value - totals(against, once)[0]
        drawn = drawn - totals(against, weights)
    if recentred:
        drawn = drawn + value - drawn.mean()
    low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(float(value), float(low), float(high))
