"""Tensors as rows x channels, and pieces of payloads: what codecs of caches have in common.

A row is a token with the channels of all of its heads beside one another, whatever the tensor's
own layout; states, pixels and crops are rows as well.
"""

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from lamofcbench.axes import CHANNEL_AXES
from lamofcbench.bits import from_storage, itemsize, storage_dtype, to_storage
from lamofcbench.errors import BitstreamError

__all__ = [
    "Matrix",
    "from_rows",
    "pack_integer",
    "pack_parts",
    "pack_values",
    "role",
    "rows_shape",
    "take",
    "to_dtype",
    "to_rows",
    "unpack_integer",
    "unpack_parts",
    "unpack_values",
]

Matrix = NDArray[np.float64]


def role(key: str) -> Literal["k", "v", "other"]:
    """What a key's name says that it is: a cache of keys, of values, or something else."""
    last = key.rsplit(".", 1)[-1]
    return "k" if last == "k_cache" else "v" if last == "v_cache" else "other"


def _order(axes: Sequence[str]) -> tuple[list[int], list[int]]:
    channels = [i for i, axis in enumerate(axes) if axis in CHANNEL_AXES]
    rows = [i for i in range(len(axes)) if i not in channels]
    # Without channels there is one row: a row of one value would have nothing to share.
    return (rows, channels) if channels else ([], rows)


def rows_shape(shape: Sequence[int], axes: Sequence[str]) -> tuple[int, int]:
    """Rows and channels of a tensor of a shape."""
    rows, channels = _order(axes)
    return math.prod(shape[i] for i in rows), math.prod(shape[i] for i in channels)


def to_rows(values: torch.Tensor, axes: Sequence[str]) -> Matrix:
    """Lay a tensor out as float64 [rows, channels]."""
    rows, channels = _order(axes)
    wide: Matrix = values.double().numpy().transpose(rows + channels)
    return np.ascontiguousarray(wide.reshape(rows_shape(values.shape, axes)))


def from_rows(rows: Matrix, shape: Sequence[int], axes: Sequence[str], dtype: str) -> torch.Tensor:
    """Undo `to_rows`, with a cast to the tensor's dtype."""
    order = [place for part in _order(axes) for place in part]
    laid = rows.reshape([shape[i] for i in order]).transpose(np.argsort(order))
    return to_dtype(np.ascontiguousarray(laid), dtype)


def to_dtype(values: NDArray[np.floating], dtype: str) -> torch.Tensor:
    """Cast to a dtype by name; what is beyond its range becomes its largest value."""
    target: torch.dtype = getattr(torch, dtype)
    tensor = torch.from_numpy(np.nan_to_num(values, nan=0.0))
    if target.is_floating_point:
        most = torch.finfo(target).max
        return tensor.clamp(-most, most).to(target)
    limits = torch.iinfo(target)
    return tensor.round().clamp(limits.min, limits.max).to(target)


def pack_values(values: Matrix, dtype: str) -> bytes:
    """Values in a dtype of tensors, as they are stored."""
    tensor = to_dtype(np.ascontiguousarray(values), dtype)
    return to_storage(tensor, dtype, dtype, "values").tobytes()


def unpack_values(data: bytes, dtype: str, shape: Sequence[int]) -> Matrix:
    """Undo `pack_values`.

    Raises:
        BitstreamError: there are fewer or more, or one is not finite.
    """
    if len(data) != math.prod(shape) * itemsize(dtype):
        raise BitstreamError("has values of another number than its shape")
    array = np.frombuffer(data, storage_dtype(dtype)).copy()
    values: Matrix = from_storage(array, dtype, dtype).double().numpy().reshape(shape)
    if not np.isfinite(values).all():
        raise BitstreamError("has values that are not finite")
    return values


def take(data: bytes, *sizes: int) -> list[bytes]:
    """Cut pieces of known sizes off the front; the rest is the last piece.

    Raises:
        BitstreamError: it is too short.
    """
    ends = np.cumsum([0, *sizes]).tolist()
    if ends[-1] > len(data):
        raise BitstreamError("has a payload that is cut short")
    return [data[a:b] for a, b in zip(ends, [*ends[1:], len(data)], strict=True)]


def pack_integer(value: int) -> bytes:
    """A number of at least 0 as LEB128."""
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes(out) + bytes([value])


def unpack_integer(data: bytes) -> tuple[int, bytes]:
    """Read what `pack_integer` wrote; return it and what follows.

    Raises:
        BitstreamError: it is cut short or above 2^63.
    """
    value = 0
    for place, byte in enumerate(data[:9]):
        value |= (byte & 127) << 7 * place
        if byte < 128:
            return value, data[place + 1 :]
    raise BitstreamError("has a number that is malformed")


def pack_parts(*parts: bytes) -> bytes:
    """Join pieces; all but the last have their length before them."""
    *before, last = parts
    return b"".join(pack_integer(len(part)) + part for part in before) + last


def unpack_parts(data: bytes, count: int) -> list[bytes]:
    """Undo `pack_parts` of ``count`` pieces.

    Raises:
        BitstreamError: a length is more than there is.
    """
    parts = []
    for _ in range(count - 1):
        size, data = unpack_integer(data)
        part, data = take(data, size)
        parts.append(part)
    return [*parts, data]
