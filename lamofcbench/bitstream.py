"""The container that a codec's bytes travel in: self-contained, checked, and small.

A bitstream holds one sample: which codec made it with which parameters, which artefact it needs,
and for each key its shape, dtype and payload. Its length is the rate, headers and all, so entries
are packed tightly: integers are LEB128, texts have their length before them.

::

    "LMFB" version codec parameters artefact count { key dtype axes shape payload }* crc32c
"""

import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import google_crc32c

from lamofcbench.errors import BitstreamError

__all__ = ["MAX_BYTES", "Bitstream", "Coded", "read_bitstream", "write_bitstream"]

MAGIC = b"LMFB"
VERSION = 1
MAX_BYTES = 1 << 31
"""Most bytes that a decoded tensor may have: a header that claims more is not believed."""
DTYPES = ("bfloat16", "float16", "float32", "float64", "uint8", "int64")
AXES = (
    *("token", "image_token", "crop", "view", "head", "dim"),
    *("channel", "state", "kernel", "height", "width", "pixel"),
)
SIZES = {"bfloat16": 2, "float16": 2, "float32": 4, "float64": 8, "uint8": 1, "int64": 8}


@dataclass(frozen=True)
class Coded:
    """One key's part of a bitstream.

    Attributes:
        payload: what the codec made of it.
        shape: of the tensor, in the model's own layout.
        dtype: of the tensor.
        axes: the name of each axis.
    """

    payload: bytes
    shape: tuple[int, ...]
    dtype: str
    axes: tuple[str, ...]

    @property
    def elements(self) -> int:
        """How many values the tensor has."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class Bitstream:
    """One sample, coded.

    Attributes:
        codec: name of the codec.
        parameters: what it was run with and a decoder must know.
        keys: a part per key, in order.
        artefact: sha256 of what every decoder holds besides, such as a codebook; empty for none.
    """

    codec: str
    parameters: Mapping[str, str]
    keys: Mapping[str, Coded]
    artefact: bytes = field(default=b"")


def _integer(value: int) -> bytes:
    out = bytearray()
    while True:
        value, low = value >> 7, value & 127
        out.append(low | (128 if value else 0))
        if not value:
            return bytes(out)


def _block(data: bytes) -> bytes:
    return _integer(len(data)) + data


def write_bitstream(stream: Bitstream) -> bytes:
    """Serialise.

    Raises:
        ValueError: a dtype or an axis has no code, or a parameter holds ``;`` or ``=``.
    """
    items = stream.parameters.items()
    if any(mark in text for item in items for text in item for mark in ";="):
        raise ValueError("parameters must not hold ; or =")
    out = bytearray(MAGIC + bytes([VERSION]))
    out += _block(stream.codec.encode())
    out += _block(";".join(f"{name}={value}" for name, value in items).encode())
    out += _block(stream.artefact)
    out += _integer(len(stream.keys))
    for key, part in stream.keys.items():
        out += _block(key.encode())
        out += bytes([DTYPES.index(part.dtype), len(part.shape)])
        out += bytes(AXES.index(axis) for axis in part.axes)
        out += b"".join(map(_integer, part.shape))
        out += _block(part.payload)
    check: int = google_crc32c.value(bytes(out))
    return bytes(out) + check.to_bytes(4, "little")


class _Reader:
    """Reads from bytes, and says in one line when there are too few."""

    def __init__(self, data: bytes) -> None:
        self._data = io.BytesIO(data)
        self._size = len(data)

    def take(self, count: int) -> bytes:
        if count > self._size - self._data.tell():
            raise BitstreamError("is cut short")
        return self._data.read(count)

    def integer(self) -> int:
        value = 0
        for place in range(10):
            (byte,) = self.take(1)
            value |= (byte & 127) << 7 * place
            if byte < 128:
                return value
        raise BitstreamError("has a number that is too long")

    def block(self) -> bytes:
        return self.take(self.integer())

    def text(self) -> str:
        try:
            return self.block().decode()
        except UnicodeDecodeError:
            raise BitstreamError("has a text that is none") from None

    def name(self, names: Sequence[str], what: str) -> str:
        (code,) = self.take(1)
        if code >= len(names):
            raise BitstreamError(f"has an unknown {what}")
        return names[code]

    @property
    def left(self) -> int:
        return self._size - self._data.tell()


def read_bitstream(data: bytes) -> Bitstream:
    """Parse, checking everything before anything is decoded.

    Raises:
        BitstreamError: it is none, of another version, cut, altered, or claims a tensor of more
            than `MAX_BYTES`.
    """
    if data[: len(MAGIC)] != MAGIC:
        raise BitstreamError("is no bitstream of lamofcbench")
    if len(data) > len(MAGIC) and data[len(MAGIC)] != VERSION:
        raise BitstreamError(f"is of version {data[len(MAGIC)]}; this reads version {VERSION}")
    body, check = data[:-4], data[-4:]
    if len(data) < 16 or google_crc32c.value(body) != int.from_bytes(check, "little"):
        raise BitstreamError("is cut short or altered: its checksum does not fit")
    reader = _Reader(body[len(MAGIC) + 1 :])
    codec, text, artefact = reader.text(), reader.text(), reader.block()
    parameters = dict(item.split("=", 1) for item in text.split(";") if "=" in item)
    keys: dict[str, Coded] = {}
    for _ in range(reader.integer()):
        key = reader.text()
        dtype = reader.name(DTYPES, "dtype")
        (rank,) = reader.take(1)
        axes = tuple(reader.name(AXES, "axis") for _ in range(rank))
        shape = tuple(reader.integer() for _ in range(rank))
        if math.prod(shape) * SIZES[dtype] > MAX_BYTES:
            raise BitstreamError(f"claims {key} of shape {list(shape)}, which is too large")
        if key in keys:
            raise BitstreamError(f"has {key} twice")
        keys[key] = Coded(reader.block(), shape, dtype, axes)
    if reader.left:
        raise BitstreamError(f"has {reader.left} bytes too many")
    return Bitstream(codec, parameters, keys, artefact)
