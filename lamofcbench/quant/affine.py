"""Uniform quantisation between the smallest and the largest value of a group.

Groups are channels, tokens or the whole tensor. Levels are spread evenly from minimum to maximum,
both of which are levels themselves.
"""

from collections.abc import Sequence
from typing import Literal

import torch

from lamofcbench.axes import APART, CHANNEL_AXES

__all__ = [
    "GROUPS",
    "Groups",
    "bounds",
    "bounds_shape",
    "dequantise",
    "fake_quantise",
    "quantise",
]

Groups = Literal["tensor", "channel", "token"]
GROUPS: tuple[Groups, ...] = ("tensor", "channel", "token")


def _shared(axes: Sequence[str], groups: Groups) -> list[int]:
    """Positions of the axes along which one pair of bounds is shared."""
    if groups == "tensor":
        return list(range(len(axes)))
    channels = [i for i, axis in enumerate(axes) if axis in CHANNEL_AXES]
    rows = [i for i, a in enumerate(axes) if a not in CHANNEL_AXES and a not in APART]
    shared = rows if groups == "channel" else channels
    # A vector has one value per channel: bounds of its own would cost more than it.
    return shared or list(range(len(axes)))


def bounds(
    values: torch.Tensor, axes: Sequence[str], groups: Groups
) -> tuple[torch.Tensor, torch.Tensor]:
    """Smallest and largest value of each group.

    Args:
        values: one sample's tensor, finite, of at least one element.
        axes: the name of each of its axes.
        groups: what shares bounds. ``channel``: each channel over its tokens; a tensor that has no
            other axes than channels is one group. ``token``: each token over its channels.

    Returns:
        Two tensors of the dtype of ``values``, of size 1 along the axes that share bounds.

    Raises:
        ValueError: axes that don't fit, or values that are not finite.
    """
    if values.ndim != len(axes):
        raise ValueError(f"a tensor of {values.ndim} axes, named {', '.join(axes)}")
    if not torch.isfinite(values).all():
        raise ValueError("a value is not finite")
    shared = _shared(axes, groups)
    return values.amin(shared, keepdim=True), values.amax(shared, keepdim=True)


def bounds_shape(shape: Sequence[int], axes: Sequence[str], groups: Groups) -> tuple[int, ...]:
    """Shape of what `bounds` returns for a tensor of a shape."""
    shared = _shared(axes, groups)
    return tuple(1 if i in shared else size for i, size in enumerate(shape))


def _step(low: torch.Tensor, high: torch.Tensor, bits: int) -> torch.Tensor:
    if not 1 <= bits <= 16:
        raise ValueError(f"bits: {bits}; needs 1 to 16")
    step: torch.Tensor = (high.double() - low.double()) / (2**bits - 1)
    return step


def quantise(
    values: torch.Tensor, low: torch.Tensor, high: torch.Tensor, bits: int
) -> torch.Tensor:
    """Nearest levels, int32, 0 to 2^bits - 1, of values within bounds.

    Raises:
        ValueError: bits are not 1 to 16.
    """
    step = _step(low, high, bits)
    levels = torch.where(step > 0, (values.double() - low.double()) / step, 0)
    return levels.round().to(torch.int32)


def dequantise(
    levels: torch.Tensor, low: torch.Tensor, high: torch.Tensor, bits: int
) -> torch.Tensor:
    """Values of levels, in the dtype of the bounds.

    Raises:
        ValueError: bits are not 1 to 16.
    """
    step = _step(low, high, bits)
    values: torch.Tensor = (low.double() + levels * step).to(low.dtype)
    return values


def fake_quantise(
    values: torch.Tensor, axes: Sequence[str], bits: int, groups: Groups
) -> torch.Tensor:
    """Quantise and dequantise.

    Args:
        values: as for `bounds`.
        axes: as for `bounds`.
        bits: 1 to 16; there are 2^bits levels.
        groups: as for `bounds`.

    Returns:
        Shape and dtype of ``values``.

    Raises:
        ValueError: bits out of range, axes that don't fit, or values that are not finite.
    """
    low, high = bounds(values, axes, groups)
    return dequantise(quantise(values, low, high, bits), low, high, bits)
