"""Planes for networks: values scaled to 0 to 1 by key, sides padded to what a network halves."""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray

from lamofcbench.axes import APART
from lamofcbench.quant.affine import Groups, bounds
from lamofcbench.quant.kmeans import assign, fit_codebook

__all__ = [
    "SCALINGS",
    "STEP",
    "Bounds",
    "ChannelBounds",
    "Codebook",
    "Scaling",
    "pad",
    "padded_size",
    "unpad",
]

STEP = 64
"""Both networks halve each side six times."""
Values = NDArray[np.float32]
MOST_VALUES, MOST_OF_SAMPLE = 1 << 20, 1 << 16


class Scaling(ABC):
    """A map of one key's values to 0 to 1 and back, fitted beforehand."""

    @classmethod
    @abstractmethod
    def summary(cls, values: torch.Tensor, axes: Sequence[str]) -> Values:
        """What `fit` needs of one sample's tensor, finite and of at least one value."""

    @classmethod
    @abstractmethod
    def fit(cls, parts: Sequence[Values]) -> Self:
        """Fit to a key's values, a `summary` of each sample's; there may be none."""

    @classmethod
    @abstractmethod
    def of(cls, numbers: Values) -> Self:
        """Take what `numbers` gave; ValueError if it can't be that."""

    @property
    @abstractmethod
    def numbers(self) -> Values:
        """What an artefact holds of it, float32."""

    def takes(self, shape: Sequence[int]) -> bool:
        """Whether it was fitted to tensors like one of this shape."""
        return True

    @abstractmethod
    def scale(self, values: NDArray[np.float64]) -> Values:
        """Map a tensor's values to float32 from 0 to 1; those out of reach are moved within it."""

    @abstractmethod
    def restore(self, scaled: Values) -> NDArray[np.float64]:
        """Undo `scale`, of a tensor's values from 0 to 1."""


class Bounds(Scaling):
    """The smallest value is 0, the largest is 1."""

    groups: ClassVar[Groups] = "tensor"

    def __init__(self, numbers: Values) -> None:
        """Scale between two bounds, or two of each group."""
        self._numbers = numbers

    @classmethod
    def summary(cls, values: torch.Tensor, axes: Sequence[str]) -> Values:
        """See `Scaling.summary`."""
        both = [end.float().numpy() for end in bounds(values, axes, cls.groups)]
        return np.stack(both) if cls.groups != "tensor" else np.stack(both).reshape(2)

    @classmethod
    def fit(cls, parts: Sequence[Values]) -> Self:
        """See `Scaling.fit`."""
        if not parts:
            return cls(np.zeros(2, np.float32))
        return cls(np.stack([np.min([p[0] for p in parts], 0), np.max([p[1] for p in parts], 0)]))

    @classmethod
    def of(cls, numbers: Values) -> Self:
        """See `Scaling.of`."""
        if not numbers.ndim or len(numbers) != 2 or not np.isfinite(numbers).all():
            raise ValueError("bounds that are none")
        if (numbers[0] > numbers[1]).any():
            raise ValueError("bounds that are none")
        return cls(numbers)

    @property
    def numbers(self) -> Values:
        """See `Scaling.numbers`."""
        return self._numbers

    def takes(self, shape: Sequence[int]) -> bool:
        """See `Scaling.takes`."""
        own = self._numbers.shape[1:]
        if not own:
            return True
        # Axes that hold planes of their own come first, and share bounds.
        return len(own) <= len(shape) and all(
            one in (1, size) for one, size in zip(own[::-1], shape[::-1], strict=False)
        )

    def _ends(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        low, high = self._numbers.astype(np.float64)
        return low, high - low

    def scale(self, values: NDArray[np.float64]) -> Values:
        """See `Scaling.scale`."""
        low, span = self._ends()
        scaled = (values - low) / np.where(span > 0, span, 1)
        return np.where(span > 0, scaled.clip(0, 1), 0).astype(np.float32)

    def restore(self, scaled: Values) -> NDArray[np.float64]:
        """See `Scaling.restore`."""
        low, span = self._ends()
        values: NDArray[np.float64] = scaled.astype(np.float64) * span + low
        return values


class ChannelBounds(Bounds):
    """Bounds of each channel, so that a few massive ones don't flatten all others.

    Crops and views share them, so that they serve tensors of one crop and of many.
    """

    groups = "channel"

    @classmethod
    def summary(cls, values: torch.Tensor, axes: Sequence[str]) -> Values:
        """See `Scaling.summary`."""
        low, high = super().summary(values, axes)
        apart = tuple(i for i, axis in enumerate(axes) if axis in APART)
        return np.stack([low.min(apart), high.max(apart)]) if apart else np.stack([low, high])


class Codebook(Scaling):
    """Each value's place in a codebook of 256 centroids, the largest not above it, over 255.

    The quantiser of the benchmark's published code, which serves to spread long tails evenly.
    """

    size = 256

    def __init__(self, centroids: Values) -> None:
        """Scale by a codebook, sorted ascending, of at least one centroid."""
        self.centroids = centroids

    @classmethod
    def summary(cls, values: torch.Tensor, axes: Sequence[str]) -> Values:
        """See `Scaling.summary`: some of the values."""
        return _choice(values.float().numpy().ravel(), MOST_OF_SAMPLE)

    @classmethod
    def fit(cls, parts: Sequence[Values]) -> Self:
        """See `Scaling.fit`."""
        joined = np.concatenate([np.zeros(0, np.float32), *parts])
        joined = joined if len(joined) else np.zeros(1, np.float32)
        chosen = _choice(joined, MOST_VALUES).astype(np.float64)
        return cls(fit_codebook(chosen, cls.size).astype(np.float32))

    @classmethod
    def of(cls, numbers: Values) -> Self:
        """See `Scaling.of`."""
        if numbers.ndim != 1 or not 0 < len(numbers) <= cls.size or not np.isfinite(numbers).all():
            raise ValueError("a codebook that is none")
        if (np.diff(numbers) < 0).any():
            raise ValueError("a codebook that is none: it is not sorted")
        return cls(numbers)

    @property
    def numbers(self) -> Values:
        """See `Scaling.numbers`."""
        return self.centroids

    def scale(self, values: NDArray[np.float64]) -> Values:
        """See `Scaling.scale`."""
        places = assign(values, self.centroids.astype(np.float64), floor=True)
        return (places / (self.size - 1)).astype(np.float32)

    def restore(self, scaled: Values) -> NDArray[np.float64]:
        """See `Scaling.restore`."""
        places = np.rint(scaled * (self.size - 1)).astype(np.int64)
        values: NDArray[np.float64] = self.centroids.astype(np.float64)[
            places.clip(0, len(self.centroids) - 1)
        ]
        return values


def _choice(values: Values, most: int) -> Values:
    """All of some values [n], or about so many, the extremes among them, always the same ones."""
    if len(values) <= most:
        return values.copy()
    # An even step would miss channels, whose count it may share a factor with.
    places = np.random.default_rng(0).integers(len(values), size=most)
    chosen: Values = values[np.append(places, [values.argmin(), values.argmax()])]
    return chosen


SCALINGS: dict[str, type[Scaling]] = {
    "bounds": Bounds,
    "channel": ChannelBounds,
    "floor": Codebook,
}


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
