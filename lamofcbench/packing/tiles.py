"""Channels of an image as tiles of one picture."""

import math
from collections.abc import Sequence
from typing import Any

from numpy.typing import NDArray

from lamofcbench.packing.base import Packing, Shape

__all__ = ["Tiles"]


class Tiles(Packing):
    """[channels, h, w] as rows of tiles: 32 channels 4 x 8, 16 channels 4 x 4.

    There are as many rows of tiles as the largest divisor of the channels that is not above their
    root.
    """

    name = "tiles"

    def takes(self, axes: Sequence[str]) -> bool:
        """See `Packing.takes`."""
        return tuple(axes) == ("channel", "height", "width")

    def size(self, shape: Shape) -> tuple[int, int]:
        """See `Packing.size`."""
        channels, height, width = shape
        rows = _rows(channels)
        return rows * height, channels // rows * width

    def _pack(self, array: NDArray[Any]) -> NDArray[Any]:
        channels, height, width = array.shape
        rows = _rows(channels)
        tiles = array.reshape(rows, channels // rows, height, width)
        return tiles.transpose(0, 2, 1, 3).reshape(self.size(array.shape))

    def _unpack(self, plane: NDArray[Any], shape: Shape) -> NDArray[Any]:
        channels, height, width = shape
        rows = _rows(channels)
        tiles = plane.reshape(rows, height, channels // rows, width)
        return tiles.transpose(0, 2, 1, 3).reshape(shape)


def _rows(channels: int) -> int:
    return max(n for n in range(1, math.isqrt(channels) + 1) if channels % n == 0)
