"""How much more or less rate one curve needs than another, over what both reach.

Bjøntegaard's delta rate (VCEG-M33, 2001) with piecewise cubic Hermite interpolation, of curves that
were made monotone first: measured fidelity is noisy, and no interpolation through noise means
anything.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lamofcbench.optional import require

__all__ = ["LEAST_POINTS", "Delta", "bd_rate", "monotone"]

LEAST_POINTS = 4
"""Levels that a curve must have strictly between the floor and the ceiling."""

SLACK = 1e-9
"""Means of equal values differ from them by rounding."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Delta:
    """A delta rate, or why there is none.

    Attributes:
        percent: 100 where twice the rate is needed, -50 where half is; None if it isn't defined.
        reason: why not; empty if it is.
    """

    percent: float | None
    reason: str = ""


def monotone(rates: Sequence[float], values: Sequence[float]) -> tuple[Floats, Floats]:
    """Make a curve monotone: isotonic regression of the value on the logarithm of the rate.

    Points that the regression pools into one level become one point, at the mean of their
    logarithms.

    Args:
        rates: above 0, in any order.
        values: higher is better.

    Returns:
        Natural logarithms of rates and values, both strictly ascending.
    """
    isotonic: Any = require("sklearn.isotonic", "plot")
    logs, given = np.log(np.asarray(rates, np.float64)), np.asarray(values, np.float64)
    fitted = isotonic.IsotonicRegression().fit_transform(logs, given)
    levels, which = np.unique(fitted, return_inverse=True)
    means = np.bincount(which, logs) / np.bincount(which)
    return means, levels


def bd_rate(
    anchor: tuple[Sequence[float], Sequence[float]],
    test: tuple[Sequence[float], Sequence[float]],
    floor: float = -np.inf,
    ceiling: float = np.inf,
) -> Delta:
    """Compare the rates of two curves at equal values, over the values that both reach.

    Nothing is extrapolated: what lies outside of either curve's points doesn't count.

    Args:
        anchor: rates in any unit, and values, of which higher is better.
        test: the same of the other curve; the numbers of points may differ.
        floor: the value that no features at all give; points at it or below are left out.
        ceiling: the uncoded value; points at it or above are left out.
    """
    curves = []
    for which, (rates, values) in (("the anchor", anchor), ("the codec", test)):
        if len(rates) != len(values):
            raise ValueError(f"{which} has {len(rates)} rates and {len(values)} values")
        if not rates:
            return Delta(None, f"{which} has no points")
        logs, levels = monotone(rates, values)
        inside = (levels > floor + SLACK) & (levels < ceiling - SLACK)
        if inside.sum() < LEAST_POINTS:
            return Delta(
                None,
                f"{which} has {inside.sum()} levels strictly between chance and uncoded, "
                f"of {LEAST_POINTS} needed",
            )
        curves.append((np.exp(logs[inside]), levels[inside]))
    first, second = curves
    if min(first[1][-1], second[1][-1]) <= max(first[1][0], second[1][0]):
        return Delta(None, "the curves do not overlap")
    measure = require("bjontegaard", "plot").bd_rate
    found = measure(*first, *second, method="pchip", require_matching_points=False, min_overlap=0)
    return Delta(float(found))
