"""Zstandard over the bits, bytes of one significance together."""

from typing import Any

import numcodecs
import numpy as np
from numpy.typing import NDArray

from lamofcbench.codecs.plain import BitsCodec

__all__ = ["Zstd"]

LEVEL = 9


class Zstd(BitsCodec):
    """Bytes shuffled, then Zstandard."""

    name = "zstd"

    def _encode(self, array: NDArray[Any]) -> bytes:
        shuffled = array.reshape(-1, 1).view(np.uint8).T
        return bytes(numcodecs.Zstd(LEVEL).encode(np.ascontiguousarray(shuffled)))

    def _decode(self, payload: bytes, dtype: np.dtype[Any], count: int) -> bytes:
        room = np.empty((dtype.itemsize, count), np.uint8)
        numcodecs.Zstd().decode(payload, room)
        return np.ascontiguousarray(room.T).tobytes()
