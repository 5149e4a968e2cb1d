"""KIVI: keys by channel, values by token, in small groups, and the last tokens as they are.

Liu et al., "KIVI: A Tuning-Free Asymmetric 2bit Quantization for KV Cache" (arXiv 2402.02750).
Caches of keys have channels of very different ranges, caches of values don't, so that keys share
bounds over ``group`` tokens of one channel, values over ``group`` channels of one token. What is
neither is not what the method is for: it is quantised as keys are, since hidden states have
massive channels, or, where it has few rows, with bounds by row. Bounds are in the tensor's dtype,
and count.
"""

from collections.abc import Mapping, Sequence
from typing import Self

import numpy as np
import torch

from lamofcbench.bits import dtype_name, itemsize
from lamofcbench.bitstream import Coded
from lamofcbench.codecs.artefact import Artefact
from lamofcbench.codecs.base import Codec
from lamofcbench.codecs.entropy import decode_levels, encode_levels
from lamofcbench.codecs.options import known_only, whole
from lamofcbench.codecs.rows import (
    from_rows,
    pack_values,
    role,
    rows_shape,
    take,
    to_rows,
    unpack_values,
)
from lamofcbench.errors import SampleError
from lamofcbench.quant.grouped import (
    dequantise_groups,
    group_bounds,
    group_count,
    quantise_groups,
)

__all__ = ["Kivi"]


class Kivi(Codec):
    """``bits`` 1 to 8, ``group`` entries to a pair of bounds, ``window`` tokens kept.

    As in the paper ``window`` is a multiple of ``group``; the last n mod ``window`` tokens of keys
    and the last ``window`` tokens of values are kept in the tensor's dtype. With 0 none is, and the
    last group of keys may be shorter.
    """

    name = "kivi"
    ladder = ("bits", tuple(str(bits) for bits in range(1, 9)))

    def __init__(self, bits: int, group: int, window: int) -> None:
        """Quantise to 2^bits levels."""
        self.bits = bits
        self.group = group
        self.window = window

    @classmethod
    def create(cls, parameters: Mapping[str, str], artefact: Artefact | None = None) -> Self:
        """See `Codec.create`."""
        known_only(cls.name, parameters, ("bits", "group", "window"))
        bits = whole(parameters, "bits", 4, 1, 8)
        group = whole(parameters, "group", 32, 1, 1 << 16)
        window = whole(parameters, "window", group, 0, 1 << 24)
        if window % group:
            raise SampleError(f"window={window}: needs 0 or a multiple of group={group}")
        return cls(bits, group, window)

    @property
    def parameters(self) -> dict[str, str]:
        """See `Codec.parameters`."""
        names = ("bits", "group", "window")
        return {name: str(getattr(self, name)) for name in names}

    def _layout(self, key: str, rows: int, channels: int) -> tuple[int, int, int]:
        """Along which axis groups run, of how many entries, and how many rows are kept."""
        kind = role(key)
        if kind == "k":
            return 0, self.group, rows % self.window if self.window else 0
        if kind == "v":
            return 1, self.group, min(rows, self.window)
        if 2 * rows >= self.group:
            return 0, self.group, 0
        return 1, max(channels, 1), 0

    def encode_tensor(self, key: str, values: torch.Tensor, axes: Sequence[str]) -> bytes:
        """See `Codec.encode_tensor`."""
        rows = to_rows(values, axes)
        dtype = dtype_name(values)
        axis, size, kept = self._layout(key, *rows.shape)
        body, tail = rows[: len(rows) - kept], rows[len(rows) - kept :]
        low, high = group_bounds(body, axis, size)
        levels = quantise_groups(body, low, high, axis, size, self.bits)
        exact = b"".join(pack_values(part, dtype) for part in (low, high, tail))
        return exact + encode_levels(levels, self.bits)

    def decode_tensor(self, key: str, part: Coded) -> torch.Tensor:
        """See `Codec.decode_tensor`."""
        rows, channels = rows_shape(part.shape, part.axes)
        axis, size, kept = self._layout(key, rows, channels)
        body = rows - kept
        groups = (
            (group_count(body, size), channels)
            if axis == 0
            else (body, group_count(channels, size))
        )
        unit = itemsize(part.dtype)
        bound = groups[0] * groups[1] * unit
        lows, highs, tail, coded = take(part.payload, bound, bound, kept * channels * unit)
        low, high = (unpack_values(data, part.dtype, groups) for data in (lows, highs))
        levels = decode_levels(coded, self.bits, body * channels).reshape(body, channels)
        found = dequantise_groups(levels, low, high, axis, size, self.bits)
        last = unpack_values(tail, part.dtype, (kept, channels))
        return from_rows(np.concatenate([found, last]), part.shape, part.axes, part.dtype)
