"""Uniform quantisation between the smallest and the largest value of a group.

Groups are channels, tokens or the whole tensor. Levels are spread evenly from minimum to maximum,
both of which are levels themselves.
"""

from collections.abc import Sequence
from typing import Literal

import torch

from lamofcbench.axes import APART, CHANNEL_AXES

__all__ = ["GROUPS", "Groups", "fake_quantise"]

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


def fake_quantise(
    values: torch.Tensor, axes: Sequence[str], bits: int, groups: Groups
) -> torch.Tensor:
    """Quantise and dequantise.

    Args:
        values: one sample's tensor, finite.
        axes: the name of each of its axes.
        bits: 1 to 16; there are 2^bits levels.
        groups: what shares bounds. ``channel``: each channel over its tokens; a tensor that has no
            other axes than channels is one group. ``token``: each token over its channels.

    Returns:
        Shape and dtype of ``values``.

    Raises:
        ValueError: bits out of range, axes that don't fit, or values that are not finite.
    """
    if not 1 <= bits <= 16:
        raise ValueError(f"bits: {bits}; needs 1 to 16")
    if values.ndim != len(axes):
        raise ValueError(f"a tensor of {values.ndim} axes, named {', '.join(axes)}")
    wide = values.double()
    if not torch.isfinite(wide).all():
        raise ValueError("a value is not finite")
    shared = _shared(axes, groups)
    low, high = wide.amin(shared, keepdim=True), wide.amax(shared, keepdim=True)
    step = (high - low) / (2**bits - 1)
    level = torch.where(step > 0, (wide - low) / step, 0).round()
    coded: torch.Tensor = (low + level * step).to(values.dtype)
    return coded
