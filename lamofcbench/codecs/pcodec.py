"""Pcodec, a codec of numbers (Loncaric, 2025)."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lamofcbench.codecs.plain import BitsCodec
from lamofcbench.optional import require

__all__ = ["Pcodec"]


class Pcodec(BitsCodec):
    """Pcodec over the bits as unsigned integers, or floats where it knows the dtype."""

    name = "pcodec"

    def _encode(self, array: NDArray[Any]) -> bytes:
        standalone = require("pcodec.standalone", "codecs")
        config = require("pcodec", "codecs").ChunkConfig()
        words = array.ravel()
        if words.dtype == np.uint8:
            words = words.astype(np.uint16)
        return bytes(standalone.simple_compress(words, config))

    def _decode(self, payload: bytes, dtype: np.dtype[Any], count: int) -> bytes:
        standalone = require("pcodec.standalone", "codecs")
        wide = np.dtype(np.uint16) if dtype == np.uint8 else dtype
        room = np.empty(count, wide)
        done = standalone.simple_decompress_into(payload, room)
        if done.n_processed != count:
            raise ValueError(f"{done.n_processed} numbers of {count}")
        return room.astype(dtype).tobytes()
