"""Any tensor as nearly a square, so that padding to multiples of 64 wastes little."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lamofcbench.packing.base import Packing, Shape

__all__ = ["Square"]

STEP = 64


class Square(Packing):
    """Rows folded: each row of the usual plane is kept whole, several stand side by side.

    A state of 8192 x 4 becomes 256 x 128 rather than 8192 columns of 4 that a picture codec pads to
    64; a vector of 768 becomes 64 x 12 rather than one row of 64. Rows that follow one another
    stand below one another, so that channels stay in columns.
    """

    name = "square"

    def takes(self, axes: Sequence[str]) -> bool:
        """See `Packing.takes`: it is nobody's usual layout."""
        return False

    def size(self, shape: Shape) -> tuple[int, int]:
        """See `Packing.size`."""
        rows, width = _rows(shape)
        side = _side_by_side(rows, width)
        return math.ceil(rows / side), side * width

    def _pack(self, array: NDArray[Any]) -> NDArray[Any]:
        rows, width = _rows(array.shape)
        height, full = self.size(array.shape)
        side = full // width
        padded = np.zeros((height * side, width), array.dtype)
        padded[:rows] = array.reshape(rows, width)
        return padded.reshape(side, height, width).transpose(1, 0, 2).reshape(height, full)

    def _unpack(self, plane: NDArray[Any], shape: Shape) -> NDArray[Any]:
        rows, width = _rows(shape)
        height, full = plane.shape
        columns = plane.reshape(height, full // width, width).transpose(1, 0, 2)
        return columns.reshape(-1, width)[:rows].reshape(shape)


def _rows(shape: Shape) -> tuple[int, int]:
    """Rows and width of a tensor before folding; a vector is folded entry by entry."""
    return (shape[0], 1) if len(shape) == 1 else (math.prod(shape[:-1]), shape[-1])


def _side_by_side(rows: int, width: int) -> int:
    """How many rows stand side by side for the least padded area, then the squarest plane."""

    def cost(side: int) -> tuple[int, int]:
        height, full = math.ceil(rows / side), side * width
        padded = math.ceil(height / STEP) * STEP * math.ceil(full / STEP) * STEP
        return padded, abs(height - full)

    most = max(1, min(rows, math.ceil(math.sqrt(rows * width) / width) * 4))
    return min(range(1, most + 1), key=cost)
