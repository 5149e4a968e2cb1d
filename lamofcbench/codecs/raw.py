"""The bits as they are."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lamofcbench.codecs.plain import BitsCodec

__all__ = ["Raw"]


class Raw(BitsCodec):
    """No compression: the floor that every ratio is to."""

    name = "raw"

    def _encode(self, array: NDArray[Any]) -> bytes:
        return array.tobytes()

    def _decode(self, payload: bytes, dtype: np.dtype[Any], count: int) -> bytes:
        return payload
