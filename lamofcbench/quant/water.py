"""Reverse water-filling: how a rate is best shared among independent Gaussian components.

Cover and Thomas, "Elements of Information Theory", on parallel Gaussian sources: each component
above the water is distorted by as much as the water is high, those below it are left out.
"""

import numpy as np
from numpy.typing import NDArray

__all__ = ["fill_water"]

ROUNDS = 100


def fill_water(variances: NDArray[np.float64], rate: float) -> float:
    """The squared error per component at which the mean rate is met.

    Args:
        variances: [components], at least 0.
        rate: mean over components, in bits, above 0.

    Returns:
        The height of the water; 0 where no component varies.
    """
    most = float(variances.max(initial=0))
    if most <= 0:
        return 0.0
    present = np.log2(variances[variances > most * 1e-12])
    low, high = float(present.min()) - 2 * rate * len(variances), float(np.log2(most))
    for _ in range(ROUNDS):
        middle = (low + high) / 2
        spent = np.maximum(present - middle, 0).sum() / 2 / len(variances)
        low, high = (middle, high) if spent > rate else (low, middle)
    return float(2.0**high)
