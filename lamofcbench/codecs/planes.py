"""Base of codecs that were made for pictures: a tensor is laid out as one plane, and coded as that.

Layouts are those of `lamofcbench.packing`; planes are float64 here, and codecs narrow them.
"""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from lamofcbench.bits import dtype_name
from lamofcbench.bitstream import Coded
from lamofcbench.codecs.base import Codec
from lamofcbench.codecs.rows import Matrix, to_dtype
from lamofcbench.errors import BitstreamError, LamofcError, SampleError
from lamofcbench.packing import Packing, default_packing, load_packing

__all__ = ["PACKINGS", "PlaneCodec", "packing_of", "to_plane"]

PACKINGS = ("usual", "square")
"""The layout that a tensor's axes have in the reference, or any tensor as nearly a square."""


def packing_of(given: Mapping[str, str]) -> str:
    """Read the parameter ``packing``.

    Raises:
        SampleError: it names none.
    """
    name = given.get("packing", PACKINGS[0])
    if name not in PACKINGS:
        raise SampleError(f"packing={name!r}: needs {' or '.join(PACKINGS)}")
    return name


def _packing(name: str, axes: Sequence[str]) -> Packing:
    return default_packing(axes) if name == "usual" else load_packing(name)


def to_plane(values: torch.Tensor, axes: Sequence[str], packing: str) -> Matrix:
    """Lay a tensor out as float64 [height, width]; a scalar as one value."""
    wide = values.double().numpy()
    if not axes:
        return np.ascontiguousarray(wide.reshape(1, 1))
    plane: Matrix = _packing(packing, axes).pack(wide)
    return plane


class PlaneCodec(Codec):
    """A codec of planes.

    Attributes:
        packing: ``usual`` or ``square``.
    """

    packing: str = PACKINGS[0]

    @abstractmethod
    def encode_plane(self, key: str, plane: Matrix, dtype: str) -> bytes:
        """Code a plane [height, width] of at least one value; a tensor's dtype may hold scales."""

    @abstractmethod
    def decode_plane(self, key: str, payload: bytes, size: tuple[int, int], dtype: str) -> Any:
        """Decode a plane of a size to numbers; what a library raises means a bad payload."""

    def encode_tensor(self, key: str, values: torch.Tensor, axes: Sequence[str]) -> bytes:
        """See `Codec.encode_tensor`."""
        if not values.numel():
            return b""
        plane = to_plane(values, axes, self.packing)
        return self.encode_plane(key, plane, dtype_name(values))

    def decode_tensor(self, key: str, part: Coded) -> torch.Tensor:
        """See `Codec.decode_tensor`."""
        if not part.elements:
            return torch.zeros(part.shape, dtype=getattr(torch, part.dtype))
        packing = _packing(self.packing, part.axes) if part.axes else None
        size = packing.size(part.shape) if packing else (1, 1)
        try:
            found = self.decode_plane(key, part.payload, size, part.dtype)
        except LamofcError:
            raise
        except (RuntimeError, ValueError, TypeError, OSError) as error:
            said = " ".join(str(error).split())
            raise BitstreamError(f"has a payload of {key} that does not decode: {said}") from None
        plane = np.asarray(found)
        if plane.shape != size:
            raise BitstreamError(f"has a plane of {key} of another size than its shape")
        laid = packing.unpack(plane, part.shape) if packing else plane.reshape(())
        return to_dtype(laid.astype(np.float64), part.dtype)
