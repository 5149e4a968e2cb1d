"""JPEG 2000 and JPEG XL over planes of 16 bits between the tensor's smallest and largest value.

Taubman and Marcellin, "JPEG2000: Image Compression Fundamentals, Standards and Practice" (2002);
Alakuijala et al., "JPEG XL next-generation image compression architecture" (2019); by imagecodecs.
Both bounds are in the tensor's dtype, and count.
"""

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from lamofcbench.bits import itemsize
from lamofcbench.codecs.artefact import Artefact
from lamofcbench.codecs.options import decimal, known_only
from lamofcbench.codecs.planes import PlaneCodec, packing_of
from lamofcbench.codecs.rows import Matrix, pack_values, take, unpack_values
from lamofcbench.errors import BitstreamError
from lamofcbench.optional import require

__all__ = ["Jpeg2000", "JpegXl"]

TOP = 65535
Picture = NDArray[np.uint16]


class _Jpeg(PlaneCodec):
    """Base of both.

    Attributes:
        option: name of the parameter of quality.
        usual: its default, smallest and largest value.
    """

    option: ClassVar[str]
    usual: ClassVar[tuple[float, float, float]]

    def __init__(self, quality: float, packing: str) -> None:
        """Code with a quality."""
        self.quality = quality
        self.packing = packing

    @classmethod
    def create(cls, parameters: Mapping[str, str], artefact: Artefact | None = None) -> Self:
        """See `Codec.create`."""
        known_only(cls.name, parameters, (cls.option, "packing"))
        return cls(decimal(parameters, cls.option, *cls.usual), packing_of(parameters))

    @property
    def parameters(self) -> dict[str, str]:
        """See `Codec.parameters`."""
        return {self.option: str(self.quality), "packing": self.packing}

    @abstractmethod
    def _encode(self, picture: Picture) -> bytes:
        """Code a picture."""

    @abstractmethod
    def _decode(self, payload: bytes, size: tuple[int, int]) -> Any:
        """Decode a picture; what the library raises means a bad payload."""

    def encode_plane(self, key: str, plane: Matrix, dtype: str) -> bytes:
        """See `PlaneCodec.encode_plane`."""
        low, high = float(plane.min()), float(plane.max())
        ends = pack_values(np.array([low, high]), dtype)
        if low == high:
            return ends
        scaled = np.rint((plane - low) / (high - low) * TOP)
        return ends + self._encode(scaled.astype(np.uint16))

    def decode_plane(self, key: str, payload: bytes, size: tuple[int, int], dtype: str) -> Any:
        """See `PlaneCodec.decode_plane`."""
        ends, coded = take(payload, 2 * itemsize(dtype))
        low, high = unpack_values(ends, dtype, (2,))
        if low == high:
            if coded:
                raise BitstreamError(f"has a payload of {key} that is longer than a constant")
            return np.full(size, low)
        picture = np.asarray(self._decode(coded, size))
        if picture.dtype != np.uint16:
            raise BitstreamError(f"has a picture of {key} that is not of 16 bits")
        return low + picture.reshape(size) / TOP * (high - low)


class Jpeg2000(_Jpeg):
    """``level``, the quality in dB to the full range, 60 by default; one tile, no colour."""

    name = "jpeg2000"
    ladder = ("level", tuple(str(level) for level in range(16, 112, 4)))
    option = "level"
    usual = (60, 1, 110)

    def _encode(self, picture: Picture) -> bytes:
        done = require("imagecodecs", "codecs").jpeg2k_encode(
            picture, level=self.quality, codecformat="j2k", reversible=False, numthreads=1
        )
        return bytes(done)

    def _decode(self, payload: bytes, size: tuple[int, int]) -> Any:
        # The size is in the first marker of the codestream; it is checked before it is believed.
        height, width = (int.from_bytes(payload[at : at + 4], "big") for at in (12, 8))
        if payload[:4] != b"\xff\x4f\xff\x51" or (height, width) != size:
            raise BitstreamError("has a picture of another size than its shape")
        return require("imagecodecs", "codecs").jpeg2k_decode(payload, numthreads=1)


class JpegXl(_Jpeg):
    """``distance``, the error that an eye would see (0.01 to 25), 0.1 by default; effort 5.

    It shapes its errors for eyes, not for squared error.
    """

    name = "jpegxl"
    ladder = (
        "distance",
        (
            "25",
            "15",
            "10",
            "6",
            "4",
            "2.5",
            "1.5",
            "1",
            "0.6",
            "0.4",
            "0.25",
            "0.15",
            "0.1",
            "0.05",
        ),
    )
    option = "distance"
    usual = (0.1, 0.01, 25)

    def _encode(self, picture: Picture) -> bytes:
        done = require("imagecodecs", "codecs").jpegxl_encode(
            picture, distance=self.quality, effort=5, usecontainer=False, numthreads=1
        )
        return bytes(done)

    def _decode(self, payload: bytes, size: tuple[int, int]) -> Any:
        room = np.empty(size, np.uint16)
        return require("imagecodecs", "codecs").jpegxl_decode(payload, numthreads=1, out=room)
