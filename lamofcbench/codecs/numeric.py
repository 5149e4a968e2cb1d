"""8-bit formats with scales by token: int8 and fp8, then entropy coding."""

import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar, Self

import numpy as np
import torch

from lamofcbench.bitstream import Coded
from lamofcbench.codecs.artefact import Artefact
from lamofcbench.codecs.base import Codec
from lamofcbench.codecs.entropy import decode_levels, encode_levels
from lamofcbench.errors import BitstreamError, SampleError
from lamofcbench.quant.affine import bounds_shape

__all__ = ["Fp8", "Int8"]

BITS = 8
SCALE = np.dtype("<f4")


class _Scaled(Codec):
    """Each token divided by a float32 scale, which travels along, then rounded to 8 bits."""

    most: ClassVar[float]
    """Largest magnitude of the format."""

    @classmethod
    def create(cls, parameters: Mapping[str, str], artefact: Artefact | None = None) -> Self:
        """See `Codec.create`; there are no parameters."""
        if parameters:
            raise SampleError(f"{cls.name} has no parameter {min(parameters)!r}")
        return cls()

    @property
    def parameters(self) -> dict[str, str]:
        """None."""
        return {}

    @abstractmethod
    def _bytes(self, scaled: torch.Tensor) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
        """Round float32 values within the format's range to bytes."""

    @abstractmethod
    def _values(self, data: torch.Tensor) -> torch.Tensor:
        """Undo `_bytes`, of uint8, to float32."""

    def encode_tensor(self, key: str, values: torch.Tensor, axes: Sequence[str]) -> bytes:
        """See `Codec.encode_tensor`."""
        if not values.numel():
            return b""
        wide = values.float()
        shape = bounds_shape(wide.shape, axes, "token")
        shared = [i for i, size in enumerate(shape) if size != wide.shape[i] or size == 1]
        scale = wide.abs().amax(shared, keepdim=True) / self.most
        scaled = torch.where(scale > 0, wide / scale, 0)
        return scale.numpy().astype(SCALE).tobytes() + encode_levels(self._bytes(scaled), BITS)

    def decode_tensor(self, key: str, part: Coded) -> torch.Tensor:
        """See `Codec.decode_tensor`."""
        dtype: torch.dtype = getattr(torch, part.dtype)
        if not part.elements:
            return torch.zeros(part.shape, dtype=dtype)
        shape = bounds_shape(part.shape, part.axes, "token")
        size = math.prod(shape) * SCALE.itemsize
        if len(part.payload) < size:
            raise BitstreamError(f"has a payload of {key} that is cut short")
        scale = torch.from_numpy(np.frombuffer(part.payload[:size], SCALE).reshape(shape).copy())
        levels = decode_levels(part.payload[size:], BITS, part.elements)
        data = torch.from_numpy(levels.astype(np.uint8)).reshape(part.shape)
        return (self._values(data) * scale).to(dtype)


class Int8(_Scaled):
    """Symmetric int8 by token: -127 to 127."""

    name = "int8"
    most = 127.0

    def _bytes(self, scaled: torch.Tensor) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
        shifted: np.ndarray[tuple[int, ...], np.dtype[np.uint8]] = (
            (scaled.round() + 128).to(torch.uint8).numpy()
        )
        return shifted

    def _values(self, data: torch.Tensor) -> torch.Tensor:
        return data.float() - 128


class Fp8(_Scaled):
    """Floats of 8 bits, 4 of exponent and 3 of mantissa (e4m3), scaled by token to 448."""

    name = "fp8"
    most = 448.0

    def _bytes(self, scaled: torch.Tensor) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
        rounded: np.ndarray[tuple[int, ...], np.dtype[np.uint8]] = (
            scaled.clamp(-self.most, self.most).to(torch.float8_e4m3fn).view(torch.uint8).numpy()
        )
        return rounded

    def _values(self, data: torch.Tensor) -> torch.Tensor:
        return data.view(torch.float8_e4m3fn).float()
