"""Everything but the last axis by rows: [..., n, d] becomes (... n) x d."""

import math
from collections.abc import Sequence
from typing import Any

from numpy.typing import NDArray

from lamofcbench.packing.base import Packing, Shape

__all__ = ["Channels"]


class Channels(Packing):
    """[..., dim] as rows x dim: hidden states, with their crops or views below one another."""

    name = "channels"

    def takes(self, axes: Sequence[str]) -> bool:
        """See `Packing.takes`."""
        return len(axes) >= 2 and axes[-1] == "dim" and axes[0] != "head"

    def size(self, shape: Shape) -> tuple[int, int]:
        """See `Packing.size`."""
        return math.prod(shape[:-1]), shape[-1]

    def _pack(self, array: NDArray[Any]) -> NDArray[Any]:
        return array.reshape(self.size(array.shape))

    def _unpack(self, plane: NDArray[Any], shape: Shape) -> NDArray[Any]:
        return plane.reshape(shape)
