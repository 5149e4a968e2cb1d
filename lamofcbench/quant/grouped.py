"""Uniform quantisation of rows x channels, with bounds for runs of neighbours along one axis.

A run is a group of ``size`` entries that follow one another; the last one may be shorter.
"""

import numpy as np
from numpy.typing import NDArray

__all__ = ["dequantise_groups", "group_bounds", "group_count", "quantise_groups"]

Matrix = NDArray[np.float64]


def group_count(length: int, size: int) -> int:
    """How many groups of ``size`` a length makes."""
    return -(-length // size)


def group_bounds(rows: Matrix, axis: int, size: int) -> tuple[Matrix, Matrix]:
    """Smallest and largest value of each group.

    Args:
        rows: [rows, channels].
        axis: along which groups run: 0 over rows, 1 over channels.
        size: of a group, at least 1.

    Returns:
        Two arrays as ``rows``, but with one entry per group along the axis.
    """
    starts = np.arange(0, rows.shape[axis], size)
    if not rows.size:
        shape = list(rows.shape)
        shape[axis] = len(starts)
        return np.zeros(shape), np.zeros(shape)
    return (
        np.minimum.reduceat(rows, starts, axis=axis),
        np.maximum.reduceat(rows, starts, axis=axis),
    )


def _spread(bounds: Matrix, axis: int, size: int, length: int) -> Matrix:
    """An entry for each value of its group."""
    whole: Matrix = np.repeat(bounds, size, axis=axis).take(np.arange(length), axis=axis)
    return whole


def quantise_groups(
    rows: Matrix, low: Matrix, high: Matrix, axis: int, size: int, bits: int
) -> NDArray[np.int32]:
    """Nearest of 2^bits levels between the bounds of each group.

    Args:
        rows: [rows, channels], within bounds.
        low: see `group_bounds`.
        high: see `group_bounds`.
        axis: see `group_bounds`.
        size: see `group_bounds`.
        bits: of a level.

    Returns:
        [rows, channels], 0 to 2^bits - 1.
    """
    step = _spread((high - low) / (2**bits - 1), axis, size, rows.shape[axis])
    above = rows - _spread(low, axis, size, rows.shape[axis])
    levels = np.divide(above, step, out=np.zeros_like(rows), where=step > 0)
    return np.clip(np.rint(levels), 0, 2**bits - 1).astype(np.int32)


def dequantise_groups(
    levels: NDArray[np.int32], low: Matrix, high: Matrix, axis: int, size: int, bits: int
) -> Matrix:
    """Undo `quantise_groups`."""
    step = _spread((high - low) / (2**bits - 1), axis, size, levels.shape[axis])
    values: Matrix = _spread(low, axis, size, levels.shape[axis]) + levels * step
    return values
