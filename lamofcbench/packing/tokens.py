"""Tokens by rows: caches [heads, n, d] become n x (heads d), outputs stay as they are."""

from collections.abc import Sequence
from typing import Any

from numpy.typing import NDArray

from lamofcbench.packing.base import Packing, Shape

__all__ = ["Tokens"]


class Tokens(Packing):
    """[heads, tokens, dim] as tokens x (heads dim)."""

    name = "tokens"

    def takes(self, axes: Sequence[str]) -> bool:
        """See `Packing.takes`."""
        return len(axes) == 3 and axes[0] == "head"

    def size(self, shape: Shape) -> tuple[int, int]:
        """See `Packing.size`."""
        heads, tokens, dim = shape
        return tokens, heads * dim

    def _pack(self, array: NDArray[Any]) -> NDArray[Any]:
        return array.transpose(1, 0, 2).reshape(self.size(array.shape))

    def _unpack(self, plane: NDArray[Any], shape: Shape) -> NDArray[Any]:
        heads, tokens, dim = shape
        return plane.reshape(tokens, heads, dim).transpose(1, 0, 2)
