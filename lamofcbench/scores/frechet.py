"""Fréchet and kernel distance between two sets of images, in some network's feature space.

Heusel et al., "GANs Trained by a Two Time-Scale Update Rule" (2017); Binkowski et al.,
"Demystifying MMD GANs" (2018). The Fréchet distance of few images is far from that of many: it is a
secondary figure beside pairwise ones. Distances are to the images that the uncoded model makes.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lamofcbench.errors import SampleError
from lamofcbench.scores.base import Answer, Figure, Numbers, Score

__all__ = ["Frechet", "frechet_distance", "kernel_distance"]

Features = NDArray[np.float64]


def frechet_distance(first: Features, second: Features) -> float:
    """Squared distance of two normal distributions fitted to features.

    Args:
        first: [n, dim], n above 1.
        second: [m, dim].

    Returns:
        Not below 0; 0 for equal sets.
    """
    means = first.mean(0) - second.mean(0)
    a, b = ((x - x.mean(0)) / np.sqrt(len(x) - 1) for x in (first, second))
    # Of covariances A'A and B'B the root of the product has the trace of |A B'|.
    roots = np.linalg.svd(a @ b.T, compute_uv=False).sum()
    return float(max(means @ means + (a**2).sum() + (b**2).sum() - 2 * roots, 0.0))


def kernel_distance(first: Features, second: Features) -> float:
    """Unbiased squared maximum mean discrepancy with the kernel (x y / dim + 1)^3.

    Args:
        first: [n, dim], n above 1.
        second: [n, dim], paired with ``first``.

    Returns:
        May be a little below 0; 0 for equal sets.
    """
    count, dim = first.shape

    def kernel(x: Features, y: Features) -> Features:
        made: Features = (x @ y.T / dim + 1) ** 3
        return made

    kernels = kernel(first, first), kernel(second, second), kernel(first, second)
    # The sets are paired, so an image and its own other version are left out of all three.
    within, other, across = ((k.sum() - np.trace(k)) / (count * (count - 1)) for k in kernels)
    return float(within + other - 2 * across)


def _distances(rows: Features, weights: NDArray[np.float64], distance: Any) -> Features:
    first, second = np.split(rows, 2, axis=1)
    results = []
    for draw in weights.astype(int):
        chosen = np.repeat(np.arange(len(rows)), draw)
        results.append(distance(first[chosen], second[chosen]))
    return np.array(results)


def _frechet(rows: Features, weights: NDArray[np.float64]) -> Features:
    return _distances(rows, weights, frechet_distance)


def _kernel(rows: Features, weights: NDArray[np.float64]) -> Features:
    return _distances(rows, weights, kernel_distance)


class Frechet(Score):
    """Distances between images from decoded and from original features.

    Answers carry the features of both images, [2, dim], as their logits: what a network makes of an
    image is not known here.
    """

    figures = (
        Figure("fid", _frechet, higher_is_better=False, recentred=True),
        Figure("kid", _kernel, higher_is_better=False, recentred=True),
    )

    def measure(
        self, answer: Answer, reference: Mapping[str, Any], context: Mapping[str, Any]
    ) -> Numbers:
        """See `Score.measure`."""
        pair = np.asarray(answer.logits, np.float64)
        if pair.ndim != 2 or len(pair) != 2:
            raise SampleError("has no features of its images, which its score needs")
        return {"fid": pair.ravel(), "kid": pair.ravel()}

    def chance(self, references: Sequence[tuple[Mapping[str, Any], Mapping[str, Any]]]) -> float:
        """Not a number: no image is right without looking."""
        return float("nan")
