"""Raw inputs to bytes and back: what remote inference would send in place of features.

A sample's parts, such as an image and a question, make one bitstream, whose length is the rate::

    { part and format (1 byte)  length (LEB128)  payload }*

Text is Zstandard, or as it is where that is shorter. Parts that are the same in all samples are not
sent: every decoder holds them, as it does the shared tokens of features.
"""

import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numcodecs
import numpy as np
from numpy.typing import NDArray

from lamofcbench.errors import BitstreamError, SampleError, UnknownNameError
from lamofcbench.optional import require

__all__ = ["NAME", "InputCodec", "Parts", "is_input"]

Parts = Mapping[str, Any]
"""Text, uint8 [height, width] or [height, width, 3], or float32 [samples], by name."""

NAME = "input"
NAMES = ("audio", "image", "prefix", "prompt", "question")
CODES = ("text", "zstd", "raw", "jpeg", "jpegxl", "png", "flac", "opus")
FORMATS = {
    "zstd": {},
    "raw": {},
    "jpeg": {"quality": (1, 100)},
    "jpegxl": {"quality": (0, 100)},
    "png": {},
    "flac": {},
    "opus": {"kbps": (6, 256)},
}
"""What each format takes, and between which bounds."""
IMAGES = ("raw", "jpeg", "jpegxl", "png")
SOUNDS = ("raw", "flac", "opus")
LEVEL = 19
RATE = 16_000
"""Samples a second of all audio inputs."""
MAX_BYTES = 1 << 28


def is_input(text: str) -> bool:
    """Say whether a codec's text means the coded input."""
    return text.partition(":")[0] == NAME


@dataclass(frozen=True)
class InputCodec:
    """How inputs are coded.

    Attributes:
        format: of images or audio: ``jpeg``, ``jpegxl``, ``png``, ``flac`` (16 bits), ``opus``, or
            ``raw``; ``zstd`` where there is text alone.
        amount: ``quality`` of JPEG and JPEG XL (100 is lossless for the latter), ``kbps`` of Opus.
    """

    format: str
    amount: int | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``input:format=jpeg,quality=80``.

        Raises:
            UnknownNameError: no such format.
            SampleError: a parameter is unknown, missing or out of range.
        """
        _, _, rest = text.partition(":")
        given = dict(item.partition("=")[::2] for item in rest.split(",") if item)
        name = given.pop("format", "zstd")
        if name not in FORMATS:
            raise UnknownNameError("format", name, FORMATS)
        needed = FORMATS[name]
        if set(given) != set(needed):
            takes = ", ".join(needed) or "nothing more"
            raise SampleError(f"{text!r}: format {name} takes {takes}")
        for parameter, (low, high) in needed.items():
            value = given[parameter]
            if not (value.isdecimal() and low <= int(value) <= high):
                raise SampleError(f"{text!r}: {parameter} must be a number from {low} to {high}")
            return cls(name, int(value))
        return cls(name)

    def encode(self, parts: Parts) -> bytes:
        """Code a sample's parts.

        Raises:
            SampleError: a part is of another kind than the format.
        """
        out = bytearray()
        for name in sorted(parts):
            if name not in NAMES:
                raise UnknownNameError("input", name, NAMES)
            kind, payload = self._encoded(name, parts[name])
            out += bytes([NAMES.index(name) << 4 | CODES.index(kind)])
            out += _length(len(payload)) + payload
        return bytes(out)

    def _encoded(self, name: str, value: Any) -> tuple[str, bytes]:
        if isinstance(value, str):
            plain = value.encode()
            packed = bytes(numcodecs.Zstd(LEVEL).encode(plain)) if plain else plain
            shorter = self.format != "raw" and len(packed) < len(plain)
            return ("zstd", packed) if shorter else ("text", plain)
        array = np.ascontiguousarray(value)
        image = array.dtype == np.uint8 and array.ndim in (2, 3)
        fitting = IMAGES if image else SOUNDS
        if self.format not in fitting:
            raise SampleError(
                f"{name} cannot be coded as {self.format}: use one of {', '.join(fitting)}"
            )
        if self.format == "raw":
            sides = b"".join(_length(side) for side in array.shape)
            return "raw", bytes([array.ndim]) + sides + array.tobytes()
        return self.format, self._image(array) if image else self._sound(array)

    def _image(self, array: NDArray[Any]) -> bytes:
        library = require("imagecodecs", "codecs")
        if self.format == "png":
            return bytes(library.png_encode(array))
        if self.format == "jpeg":
            colour = {"subsampling": "420"} if array.ndim == 3 else {}
            return bytes(library.jpeg8_encode(array, level=self.amount, **colour))
        options = {"lossless": True} if self.amount == 100 else {"level": self.amount}
        return bytes(library.jpegxl_encode(array, usecontainer=False, **options))

    def _sound(self, array: NDArray[Any]) -> bytes:
        library = require("soundfile", "models")
        file = io.BytesIO()
        if self.format == "flac":
            # 16 bits hold just less than 1.
            whole = np.clip(np.round(array * 32768.0), -32768, 32767).astype(np.int16)
            library.write(file, whole, RATE, format="FLAC", subtype="PCM_16")
        else:
            # The library counts from 0, 256 kbit/s, to 1, 6 kbit/s.
            level = 1 - ((self.amount or 6) - 6) / 250
            library.write(file, array, RATE, format="OGG", subtype="OPUS", compression_level=level)
        return file.getvalue()

    @staticmethod
    def decode(data: bytes) -> dict[str, Any]:
        """Decode the parts of a sample from the bytes alone.

        Raises:
            BitstreamError: they are cut or malformed.
        """
        parts, at = {}, 0
        while at < len(data):
            name, kind = data[at] >> 4, data[at] & 15
            if name >= len(NAMES) or kind >= len(CODES):
                raise BitstreamError("the coded input names an unknown part or format")
            count, at = _read_length(data, at + 1)
            payload = data[at : at + count]
            if len(payload) != count:
                raise BitstreamError(f"the coded {NAMES[name]} is cut short")
            try:
                parts[NAMES[name]] = _decoded(CODES[kind], payload)
            except BitstreamError:
                raise
            except (RuntimeError, ValueError, OSError) as error:
                raise BitstreamError(f"the coded {NAMES[name]} is damaged: {error}") from None
            at += count
        return parts


def _decoded(kind: str, payload: bytes) -> Any:
    if kind == "text":
        return payload.decode()
    if kind == "zstd":
        return bytes(numcodecs.Zstd().decode(payload)).decode()
    if kind == "raw":
        at, shape = 1, []
        for _ in range(payload[0] if payload else 0):
            side, at = _read_length(payload, at)
            shape.append(side)
        dtype = np.float32 if len(shape) == 1 else np.uint8
        return np.frombuffer(payload, dtype, offset=at).reshape(shape)
    if kind in SOUNDS:
        library = require("soundfile", "models")
        with library.SoundFile(io.BytesIO(payload)) as file:
            if file.frames * 4 > MAX_BYTES:
                raise BitstreamError(f"the coded audio claims {file.frames} samples")
            return file.read(dtype="float32")
    library = require("imagecodecs", "codecs")
    decoder = {"jpeg": "jpeg8", "jpegxl": "jpegxl", "png": "png"}[kind]
    image = np.asarray(getattr(library, f"{decoder}_decode")(payload))
    return image[..., 0] if image.ndim == 3 and image.shape[2] == 1 else image


def _length(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def _read_length(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while at < len(data) and shift < 35:
        byte = data[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at
    raise BitstreamError("a length of the coded input is cut short")
