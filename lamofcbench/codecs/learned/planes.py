"""Planes for networks: values scaled to 0 to 1 by key, sides padded to what a network halves."""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Self

import numpy as np
from numpy.typing import NDArray

from lamofcbench.quant.kmeans import assign, fit_codebook

__all__ = ["SCALINGS", "STEP", "Bounds", "Codebook", "Scaling", "pad", "padded_size", "unpad"]

STEP = 64
"""Both networks halve each side six times."""
Values = NDArray[np.float32]
MOST_VALUES, MOST_OF_SAMPLE = 1 << 20, 1 << 16


class Scaling(ABC):
    """A map of one key's values to 0 to 1 and back, fitted beforehand."""

    @staticmethod
    @abstractmethod
    def summary(values: Values) -> Values:
        """What `fit` needs of one sample's values [n], which may be none."""

    @classmethod
    @abstractmethod
    def fit(cls, parts: Sequence[Values]) -> Self:
        """Fit to a key's values, a `summary` of each sample's."""

    @classmethod
    @abstractmethod
    def of(cls, numbers: Values) -> Self:
        """Take what `numbers` gave; ValueError if it can't be that."""

    @property
    @abstractmethod
    def numbers(self) -> Values:
        """What an artefact holds of it, float32."""

    @abstractmethod
    def scale(self, values: NDArray[np.float64]) -> Values:
        """Map values, any shape, to float32 from 0 to 1; those out of reach are moved within it."""

    @abstractmethod
    def restore(self, plane: Values) -> NDArray[np.float64]:
        """Undo `scale`, of values from 0 to 1."""


class Bounds(Scaling):
    """The smallest value is 0, the largest is 1."""

    def __init__(self, low: float, high: float) -> None:
        """Scale between two bounds."""
        self.low, self.high = low, high

    @staticmethod
    def summary(values: Values) -> Values:
        """See `Scaling.summary`."""
        return np.array([values.min(), values.max()]) if values.size else values

    @classmethod
    def fit(cls, parts: Sequence[Values]) -> Self:
        """See `Scaling.fit`."""
        full = [part for part in parts if part.size]
        low = min((float(part.min()) for part in full), default=0.0)
        return cls(low, max((float(part.max()) for part in full), default=0.0))

    @classmethod
    def of(cls, numbers: Values) -> Self:
        """See `Scaling.of`."""
        if numbers.shape != (2,) or not np.isfinite(numbers).all() or numbers[0] > numbers[1]:
            raise ValueError("bounds that are none")
        return cls(float(numbers[0]), float(numbers[1]))

    @property
    def numbers(self) -> Values:
        """See `Scaling.numbers`."""
        return np.array([self.low, self.high], np.float32)

    def scale(self, values: NDArray[np.float64]) -> Values:
        """See `Scaling.scale`."""
        span = self.high - self.low
        if not span:
            return np.zeros(values.shape, np.float32)
        return ((values - self.low) / span).clip(0, 1).astype(np.float32)

    def restore(self, plane: Values) -> NDArray[np.float64]:
        """See `Scaling.restore`."""
        values: NDArray[np.float64] = plane.astype(np.float64) * (self.high - self.low) + self.low
        return values


class Codebook(Scaling):
    """Each value's place in a codebook of 256 centroids, the largest not above it, over 255.

    The quantiser of the benchmark's published code, which serves to spread long tails evenly.
    """

    size = 256

    def __init__(self, centroids: Values) -> None:
        """Scale by a codebook, sorted ascending, of at least one centroid."""
        self.centroids = centroids

    @staticmethod
    def summary(values: Values) -> Values:
        """See `Scaling.summary`: an even choice."""
        return values[:: max(1, len(values) // MOST_OF_SAMPLE)].copy()

    @classmethod
    def fit(cls, parts: Sequence[Values]) -> Self:
        """See `Scaling.fit`."""
        joined = np.concatenate([np.zeros(0, np.float32), *parts])
        joined = joined if len(joined) else np.zeros(1, np.float32)
        step = max(1, len(joined) // MOST_VALUES)
        return cls(fit_codebook(joined[::step].astype(np.float64), cls.size).astype(np.float32))

    @classmethod
    def of(cls, numbers: Values) -> Self:
        """See `Scaling.of`."""
        if numbers.ndim != 1 or not 0 < len(numbers) <= cls.size or not np.isfinite(numbers).all():
            raise ValueError("a codebook that is none")
        return cls(numbers)

    @property
    def numbers(self) -> Values:
        """See `Scaling.numbers`."""
        return self.centroids

    def scale(self, values: NDArray[np.float64]) -> Values:
        """See `Scaling.scale`."""
        places = assign(values, self.centroids.astype(np.float64), floor=True)
        return (places / (self.size - 1)).astype(np.float32)

    def restore(self, plane: Values) -> NDArray[np.float64]:
        """See `Scaling.restore`."""
        places = np.rint(plane * (self.size - 1)).astype(np.int64)
        values: NDArray[np.float64] = self.centroids.astype(np.float64)[
            places.clip(0, len(self.centroids) - 1)
        ]
        return values


SCALINGS: dict[str, type[Scaling]] = {"bounds": Bounds, "floor": Codebook}


def padded_size(size: tuple[int, int]) -> tuple[int, int]:
    """Height and width, each rounded up to a multiple of `STEP`."""
    height, width = (math.ceil(side / STEP) * STEP for side in size)
    return height, width


def pad(plane: Values) -> Values:
    """Put zeros around a plane, half before it and half after, up to `padded_size`."""
    before = _before(plane.shape[0], plane.shape[1])
    height, width = padded_size((plane.shape[0], plane.shape[1]))
    padded = np.zeros((height, width), plane.dtype)
    padded[before[0] : before[0] + plane.shape[0], before[1] : before[1] + plane.shape[1]] = plane
    return padded


def unpad(padded: Values, size: tuple[int, int]) -> Values:
    """Undo `pad`."""
    top, left = _before(*size)
    return padded[top : top + size[0], left : left + size[1]]


def _before(height: int, width: int) -> tuple[int, int]:
    full = padded_size((height, width))
    return (full[0] - height) // 2, (full[1] - width) // 2
