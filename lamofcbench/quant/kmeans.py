"""Non-uniform scalar quantisation: codebooks of sorted centroids.

The reference maps a value to the largest centroid that is not above it (floor), which costs about
four times the squared error of the nearest one; both are here, and nearest is the default.
"""

import numpy as np
from numpy.typing import NDArray

__all__ = ["assign", "fit_codebook"]

Values = NDArray[np.float64]
ROUNDS = 50


def fit_codebook(values: Values, size: int) -> Values:
    """Fit centroids by Lloyd's algorithm in one dimension.

    It starts from quantiles, so it needs no seed, and works on the sorted distinct values, weighed
    by how often they occur: the same values give the same codebook.

    Args:
        values: [n], finite, n above 0.
        size: how many centroids at most; fewer distinct values have one each.

    Returns:
        Centroids, sorted ascending, float64 [at most ``size``].

    Raises:
        ValueError: there are no values, one is not finite, or the size is below 1.
    """
    flat = np.asarray(values, np.float64).ravel()
    if not flat.size or not np.isfinite(flat).all() or size < 1:
        raise ValueError("a codebook needs finite values, and a size of at least 1")
    distinct, counts = np.unique(flat, return_counts=True)
    if len(distinct) <= size:
        return distinct
    weights = np.concatenate([[0], np.cumsum(counts)])
    sums = np.concatenate([[0], np.cumsum(distinct * counts)])
    places = (np.arange(size) + 0.5) / size * weights[-1]
    centroids = np.unique(distinct[np.searchsorted(weights[1:], places)])
    while len(centroids) < size:
        # Where values repeat, quantiles coincide: split the widest gaps that hold values.
        gaps = np.diff(centroids)
        widest = np.argsort(-gaps)[: size - len(centroids)]
        middles = (centroids[widest] + centroids[widest + 1]) / 2
        grown = np.unique(np.concatenate([centroids, middles]))
        if len(grown) == len(centroids):
            break
        centroids = grown
    for _ in range(ROUNDS):
        cuts = np.searchsorted(distinct, (centroids[1:] + centroids[:-1]) / 2)
        ends = np.concatenate([[0], cuts, [len(distinct)]])
        mass = np.diff(weights[ends])
        total = np.diff(sums[ends])
        moved = np.where(mass > 0, total / np.maximum(mass, 1), centroids)
        if np.array_equal(moved, centroids):
            break
        centroids = np.sort(moved)
    return centroids


def assign(values: Values, codebook: Values, *, floor: bool = False) -> NDArray[np.int32]:
    """Map values to centroids.

    Args:
        values: any shape.
        codebook: sorted ascending.
        floor: take the largest centroid not above a value (the first for smaller ones), as the
            reference does, in place of the nearest.

    Returns:
        int32, the shape of ``values``: places in the codebook.
    """
    if floor:
        places = np.searchsorted(codebook, values, side="right") - 1
        return np.maximum(places, 0).astype(np.int32)
    middles = (codebook[1:] + codebook[:-1]) / 2
    return np.searchsorted(middles, values).astype(np.int32)
