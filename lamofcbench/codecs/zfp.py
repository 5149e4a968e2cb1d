"""ZFP with a fixed accuracy: blocks of 4 x 4 values, decorrelated, then planes of bits.

Lindstrom, "Fixed-Rate Compressed Floating-Point Arrays" (IEEE TVCG 2014), by imagecodecs.
"""

import math
from collections.abc import Mapping
from typing import Any, Self

import numpy as np

from lamofcbench.codecs.artefact import Artefact
from lamofcbench.codecs.options import decimal, known_only
from lamofcbench.codecs.planes import PlaneCodec, packing_of
from lamofcbench.codecs.rows import Matrix
from lamofcbench.errors import BitstreamError
from lamofcbench.optional import require

__all__ = ["Zfp"]

HEADER = 12
"""Bytes of magic, type, size and mode before the blocks."""
SPARE = 4096
"""Zero bytes after a payload: the library reads on where a payload is cut."""
FLOAT32 = 2


class Zfp(PlaneCodec):
    """``tolerance``, the largest error in deviations of the tensor, 0.05 by default.

    ZFP rounds it down to a power of two. Values are float32 inside.
    """

    name = "zfp"
    ladder = ("tolerance", tuple(str(2.0**-power) for power in range(-4, 16)))

    def __init__(self, tolerance: float, packing: str) -> None:
        """Code with errors of at most ``tolerance`` deviations."""
        self.tolerance = tolerance
        self.packing = packing

    @classmethod
    def create(cls, parameters: Mapping[str, str], artefact: Artefact | None = None) -> Self:
        """See `Codec.create`."""
        known_only(cls.name, parameters, ("tolerance", "packing"))
        return cls(decimal(parameters, "tolerance", 0.05, 1e-6, 100), packing_of(parameters))

    @property
    def parameters(self) -> dict[str, str]:
        """See `Codec.parameters`."""
        return {"tolerance": str(self.tolerance), "packing": self.packing}

    def encode_plane(self, key: str, plane: Matrix, dtype: str) -> bytes:
        """See `PlaneCodec.encode_plane`."""
        most = float(np.finfo(np.float32).max) / 4
        narrow = np.clip(plane, -most, most).astype(np.float32)
        # A tensor that doesn't vary has no deviation: its size serves.
        scale = float(plane.std()) or float(np.abs(plane).max()) / 256 or 1.0
        level = max(self.tolerance * scale, 1e-37)
        zfp = require("imagecodecs", "codecs")
        return bytes(zfp.zfp_encode(narrow, level=level, mode="accuracy", numthreads=1))

    def decode_plane(self, key: str, payload: bytes, size: tuple[int, int], dtype: str) -> Any:
        """See `PlaneCodec.decode_plane`."""
        said = int.from_bytes(payload[4:HEADER], "little")
        height, width = (said >> 28 & 0xFFFFFF) + 1, (said >> 4 & 0xFFFFFF) + 1
        kind, dimensions = said & 3, said >> 2 & 3
        if len(payload) < HEADER or (kind, dimensions, height, width) != (FLOAT32, 1, *size):
            raise BitstreamError(f"has a payload of {key} with another header than its shape")
        # A block takes a bit at least, so that few bytes can't claim many.
        blocks = math.ceil(height / 4) * math.ceil(width / 4)
        if (len(payload) - HEADER) * 8 < blocks:
            raise BitstreamError(f"has a payload of {key} that is cut short")
        padded = payload + bytes(SPARE + blocks // 8)
        return require("imagecodecs", "codecs").zfp_decode(padded, numthreads=1)
