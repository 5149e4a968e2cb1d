"""Uniform quantisation between the bounds of each group, then entropy coding.

Bounds travel in the tensor's own dtype, which holds them exactly, and count.
"""

import math
from collections.abc import Mapping, Sequence
from typing import ClassVar, Self

import numpy as np
import torch

from lamofcbench.bits import dtype_name, from_storage, itemsize, storage_dtype, to_storage
from lamofcbench.bitstream import Coded
from lamofcbench.codecs.artefact import Artefact
from lamofcbench.codecs.base import Codec, parameter
from lamofcbench.codecs.entropy import decode_levels, encode_levels
from lamofcbench.errors import BitstreamError, SampleError
from lamofcbench.quant.affine import Groups, bounds, bounds_shape, dequantise, quantise

__all__ = ["ChannelAffine", "TokenAffine", "Uniform"]


class _Affine(Codec):
    """Levels of ``bits`` bits.

    Attributes:
        groups: what shares bounds.
    """

    groups: ClassVar[Groups]
    ladder = ("bits", tuple(str(bits) for bits in range(1, 17)))

    def __init__(self, bits: int) -> None:
        """Quantise to 2^bits levels."""
        self.bits = bits

    @classmethod
    def create(cls, parameters: Mapping[str, str], artefact: Artefact | None = None) -> Self:
        """See `Codec.create`; ``bits`` is 1 to 16, 8 by default."""
        if extra := set(parameters) - {"bits"}:
            raise SampleError(f"{cls.name} has no parameter {min(extra)!r}, only bits")
        bits = parameter(parameters.get("bits", "8"), int, "bits")
        if not 1 <= bits <= 16:
            raise SampleError(f"bits={bits}: needs 1 to 16")
        return cls(bits)

    @property
    def parameters(self) -> dict[str, str]:
        """See `Codec.parameters`."""
        return {"bits": str(self.bits)}

    def encode_tensor(self, key: str, values: torch.Tensor, axes: Sequence[str]) -> bytes:
        """See `Codec.encode_tensor`."""
        if not values.numel():
            return b""
        low, high = bounds(values, axes, self.groups)
        levels = quantise(values, low, high, self.bits)
        dtype = dtype_name(values)
        ends = b"".join(to_storage(end, dtype, dtype, key).tobytes() for end in (low, high))
        return ends + encode_levels(levels.numpy(), self.bits)

    def decode_tensor(self, key: str, part: Coded) -> torch.Tensor:
        """See `Codec.decode_tensor`."""
        if not part.elements:
            return from_storage(
                np.zeros(part.shape, storage_dtype(part.dtype)), part.dtype, part.dtype
            )
        shape = bounds_shape(part.shape, part.axes, self.groups)
        size = math.prod(shape) * itemsize(part.dtype)
        if len(part.payload) < 2 * size:
            raise BitstreamError(f"has a payload of {key} that is cut short")
        low, high = (
            from_storage(
                np.frombuffer(part.payload[at : at + size], storage_dtype(part.dtype))
                .reshape(shape)
                .copy(),
                part.dtype,
                part.dtype,
            )
            for at in (0, size)
        )
        levels = decode_levels(part.payload[2 * size :], self.bits, part.elements)
        return dequantise(torch.from_numpy(levels).reshape(part.shape), low, high, self.bits)


class Uniform(_Affine):
    """One pair of bounds for the whole tensor."""

    name = "uniform"
    groups = "tensor"


class ChannelAffine(_Affine):
    """A pair of bounds for each channel, over its tokens."""

    name = "channel"
    groups = "channel"


class TokenAffine(_Affine):
    """A pair of bounds for each token, over its channels."""

    name = "token"
    groups = "token"
