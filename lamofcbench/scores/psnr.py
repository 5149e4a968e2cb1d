"""Peak signal-to-noise ratio of a pair of images."""

import math

import numpy as np
from numpy.typing import ArrayLike

__all__ = ["psnr"]


def psnr(first: ArrayLike, second: ArrayLike, peak: float = 1.0) -> float:
    """Compare two images pixel by pixel.

    Args:
        first: numbers of any shape.
        second: the same shape.
        peak: the largest value that a pixel can have, above 0; 255 for 8-bit images.

    Returns:
        Decibels: 10 log10(peak^2 / mean squared error); infinite for equal images.

    Raises:
        ValueError: the shapes differ, or there are no pixels.
    """
    a, b = np.asarray(first, np.float64), np.asarray(second, np.float64)
    if a.shape != b.shape or not a.size:
        raise ValueError(
            f"psnr: shapes {list(a.shape)} and {list(b.shape)}; need the same, not empty"
        )
    error = float(np.mean((a - b) ** 2))
    return math.inf if error == 0 else 10 * math.log10(peak**2 / error)
