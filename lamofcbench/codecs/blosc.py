"""Blosc with bit shuffling over the bits, as the archive stores them but for its blocks."""

from typing import Any

import numcodecs
import numpy as np
from numpy.typing import NDArray

from lamofcbench.codecs.plain import BitsCodec

__all__ = ["Blosc"]

BLOCK = 1 << 20
LEVEL = 5


class Blosc(BitsCodec):
    """Blosc: bytes shuffled in blocks of 1 MiB, then Zstandard."""

    name = "blosc"

    def _encode(self, array: NDArray[Any]) -> bytes:
        codec = numcodecs.Blosc("zstd", LEVEL, numcodecs.Blosc.SHUFFLE, BLOCK)
        return bytes(codec.encode(array))

    def _decode(self, payload: bytes, dtype: np.dtype[Any], count: int) -> bytes:
        room = np.empty(count, dtype)
        numcodecs.Blosc().decode(payload, room)
        return room.tobytes()
