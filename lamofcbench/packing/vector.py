"""A vector as one row."""

from collections.abc import Sequence
from typing import Any

from numpy.typing import NDArray

from lamofcbench.packing.base import Packing, Shape

__all__ = ["Vector"]


class Vector(Packing):
    """[dim] as 1 x dim."""

    name = "vector"

    def takes(self, axes: Sequence[str]) -> bool:
        """See `Packing.takes`."""
        return len(axes) == 1

    def size(self, shape: Shape) -> tuple[int, int]:
        """See `Packing.size`."""
        return 1, shape[0]

    def _pack(self, array: NDArray[Any]) -> NDArray[Any]:
        return array[None]

    def _unpack(self, plane: NDArray[Any], shape: Shape) -> NDArray[Any]:
        row: NDArray[Any] = plane[0]
        return row
