"""F1 of the edges of a pair of images."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["edge_f1"]


def edge_f1(found: ArrayLike, wanted: ArrayLike, tolerance: int = 1) -> float:
    """Say how well edges lie on each other.

    An edge pixel of one map is matched if the other has one within ``tolerance`` pixels of it,
    diagonals included. Precision is the matched share of ``found``, recall that of ``wanted``.

    Args:
        found: bool [height, width], true on edges.
        wanted: the same shape.
        tolerance: pixels by which edges may be off.

    Returns:
        2 x precision x recall / (precision + recall), in 0..1; 1 if neither map has an edge, 0 if
        only one has.

    Raises:
        ValueError: the maps are not two-dimensional or their shapes differ.
    """
    a, b = np.asarray(found, bool), np.asarray(wanted, bool)
    if a.ndim != 2 or a.shape != b.shape:
        raise ValueError(
            f"edge_f1: shapes {list(a.shape)} and {list(b.shape)}; need the same two axes"
        )
    if not a.any() or not b.any():
        return float(a.any() == b.any())
    precision = (a & _grown(b, tolerance)).sum() / a.sum()
    recall = (b & _grown(a, tolerance)).sum() / b.sum()
    total = precision + recall
    return float(2 * precision * recall / total) if total else 0.0


def _grown(edges: NDArray[np.bool_], by: int) -> NDArray[np.bool_]:
    """Set every pixel within a square of side 2 x by + 1 around an edge."""
    padded = np.pad(edges, by)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (2 * by + 1, 2 * by + 1))
    return np.asarray(windows.any(axis=(2, 3)))
