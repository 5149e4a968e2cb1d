"""Base of video codecs: clip to fitted bounds, round to 10 bits, code the plane as one picture.

The bounds are percentiles of calibration values, per key. A plane is padded with its edges to what
a codec needs at least, and cut on decoding.
"""

from abc import abstractmethod
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray

from lamofcbench.bitstream import Coded
from lamofcbench.codecs.artefact import Artefact
from lamofcbench.codecs.base import Axes, Features
from lamofcbench.codecs.fitted import FittedCodec, calibration_rows, even_choice
from lamofcbench.codecs.options import decimal, known_only, whole
from lamofcbench.codecs.planes import PlaneCodec, packing_of
from lamofcbench.codecs.rows import Matrix

__all__ = ["Picture", "VideoCodec"]

TOP = 1023
MOST_VALUES = 1 << 24
Picture = NDArray[np.uint16]


class VideoCodec(FittedCodec, PlaneCodec):
    """``qp`` 8 by default; ``clip``, the percent of values beyond either bound, 0.01; ``packing``.

    Attributes:
        least: smallest side of a picture.
        multiple: that sides must be of.
    """

    ladder = ("qp", tuple(str(qp) for qp in range(51, -1, -1)))
    fit_parameters = ("clip",)
    least: ClassVar[int]
    multiple: ClassVar[int] = 1
    options: ClassVar[tuple[str, ...]] = ("qp", "clip", "packing")

    def __init__(self, qp: int, clip: float, packing: str) -> None:
        """Code with a quantisation parameter."""
        self.qp = qp
        self.clip = clip
        self.packing = packing

    @classmethod
    def create(cls, parameters: Mapping[str, str], artefact: Artefact | None = None) -> Self:
        """See `Codec.create`."""
        known_only(cls.name, parameters, cls.options)
        codec = cls(
            whole(parameters, "qp", 8, 0, 51),
            decimal(parameters, "clip", 0.01, 0, 25),
            packing_of(parameters),
        )
        codec.hold(artefact)
        return codec

    @property
    def parameters(self) -> dict[str, str]:
        """See `Codec.parameters`."""
        return {"qp": str(self.qp), "clip": str(self.clip), "packing": self.packing}

    def fit(self, samples: Iterable[Features], axes: Axes) -> Artefact:
        """See `Codec.fit`: bounds per key."""
        fields: dict[str, NDArray[Any]] = {}
        calibration, _ = calibration_rows(samples, axes)
        for key, parts in calibration.items():
            most = MOST_VALUES // max(1, len(parts))
            values = np.concatenate([even_choice(part, most) for part in parts])
            share = self.clip / 100
            fields[f"{key}/bounds"] = (
                np.array(
                    [
                        np.quantile(values, share, method="lower"),
                        np.quantile(values, 1 - share, method="higher"),
                    ]
                )
                if len(values)
                else np.zeros(2)
            )
        return self.make_artefact(fields)

    @abstractmethod
    def encode_picture(self, picture: Picture) -> bytes:
        """Code a picture of 10 bits."""

    @abstractmethod
    def decode_picture(self, payload: bytes, size: tuple[int, int]) -> Picture:
        """Decode a picture of a size; what a library raises means a bad payload."""

    def _padded(self, size: tuple[int, int]) -> tuple[int, int]:
        height, width = (-(-max(n, self.least) // self.multiple) * self.multiple for n in size)
        return height, width

    def encode_plane(self, key: str, plane: Matrix, dtype: str) -> bytes:
        """See `PlaneCodec.encode_plane`."""
        low, high = self.field(key, "bounds", [2])
        scaled = (plane - low) / (high - low if high > low else 1) * TOP
        levels = np.rint(np.clip(scaled, 0, TOP)).astype(np.uint16)
        height, width = self._padded((plane.shape[0], plane.shape[1]))
        more = ((0, height - plane.shape[0]), (0, width - plane.shape[1]))
        return self.encode_picture(np.pad(levels, more, mode="edge"))

    def decode_plane(self, key: str, payload: bytes, size: tuple[int, int], dtype: str) -> Any:
        """See `PlaneCodec.decode_plane`."""
        low, high = self.field(key, "bounds", [2])
        picture = self.decode_picture(payload, self._padded(size))[: size[0], : size[1]]
        return low + picture.astype(np.float64) / TOP * (high - low)

    def _decode(self, key: str, part: Coded) -> torch.Tensor:
        return PlaneCodec.decode_tensor(self, key, part)
