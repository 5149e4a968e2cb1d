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

from lamofcbench.errors import BitstreamError, SampleError

__all__ = ["MAX_BYTES", "Bitstream", "Coded", "read_bitstream", "write_bitstream"]

MAGIC = b"LMFB"
VERSION = 1
MAX_BYTES = 1 << 31
"""Most bytes that a decoded tensor may have: a header that claims more is not believed."""
FREE_BYTES = 1 << 26
ELEMENTS_PER_BYTE = 1 << 16
"""A tensor of more than `FREE_BYTES` needs a byte of payload for every so many elements. No coder
packs values closer, unless all are equal."""
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


def _believed(shape: Sequence[int], dtype: str, payload: int) -> bool:
    """Whether a decoder may set memory aside for a tensor, given how many bytes code it."""
    elements = math.prod(shape)
    size = elements * SIZES[dtype]
    return size <= FREE_BYTES or (size <= MAX_BYTES and elements <= payload * ELEMENTS_PER_BYTE)


def write_bitstream(stream: Bitstream) -> bytes:
    """Serialise.

    Raises:
        ValueError: a dtype or an axis has no code, or a parameter holds ``;`` or ``=``.
        SampleError: a tensor is so large, or its payload beside it so small, that no decoder would
            believe it.
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
        if not _believed(part.shape, part.dtype, len(part.payload)):
            raise SampleError(
                f"{key}: {list(part.shape)} in {len(part.payload)} bytes is more than a decoder "
                "believes: code it in parts, or leave it out if it is constant"
            )
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
            than `MAX_BYTES`, or of more than its payload can hold.
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
        payload = reader.block()
        if not _believed(shape, dtype, len(payload)):
            raise BitstreamError(
                f"claims {key} of shape {list(shape)} in {len(payload)} bytes, which is too large"
            )
        if key in keys:
            raise BitstreamError(f"has {key} twice")
        keys[key] = Coded(payload, shape, dtype, axes)
    if reader.left:
        raise BitstreamError(f"has {reader.left} bytes too many")
    return Bitstream(codec, parameters, keys, artefact)
