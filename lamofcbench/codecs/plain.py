"""Codecs that work on a tensor's stored bits and give every one of them back."""

import zlib
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray

from lamofcbench.bits import dtype_name, from_storage, storage_dtype, to_storage
from lamofcbench.bitstream import Coded
from lamofcbench.codecs.artefact import Artefact
from lamofcbench.codecs.base import Codec
from lamofcbench.errors import BitstreamError, SampleError

__all__ = ["BitsCodec"]


class BitsCodec(Codec):
    """Base of lossless codecs without parameters."""

    lossless = True

    @classmethod
    def create(cls, parameters: Mapping[str, str], artefact: Artefact | None = None) -> Self:
        """See `Codec.create`."""
        if parameters:
            raise SampleError(f"{cls.name} has no parameter {min(parameters)!r}")
        return cls()

    @property
    def parameters(self) -> dict[str, str]:
        """None."""
        return {}

    @abstractmethod
    def _encode(self, array: NDArray[Any]) -> bytes:
        """Code an array of at least one element."""

    @abstractmethod
    def _decode(self, payload: bytes, dtype: np.dtype[Any], count: int) -> bytes:
        """Decode to the array's bytes; anything that a library raises means a bad payload."""

    def encode_tensor(self, key: str, values: torch.Tensor, axes: Sequence[str]) -> bytes:
        """See `Codec.encode_tensor`."""
        dtype = dtype_name(values)
        array = to_storage(values, dtype, dtype, key)
        return self._encode(np.ascontiguousarray(array)) if array.size else b""

    def decode_tensor(self, key: str, part: Coded) -> torch.Tensor:
        """See `Codec.decode_tensor`."""
        dtype = np.dtype(storage_dtype(part.dtype))
        try:
            data = self._decode(part.payload, dtype, part.elements) if part.elements else b""
        except (RuntimeError, ValueError, TypeError, zlib.error) as error:
            raise BitstreamError(f"has a payload of {key} that does not decode: {error}") from None
        if len(data) != part.elements * dtype.itemsize:
            raise BitstreamError(f"has a payload of {key} of another size than its shape")
        array = np.frombuffer(data, dtype).reshape(part.shape).copy()
        return from_storage(array, part.dtype, part.dtype)
