"""KVQuant: keys before rotation by channel, values by token, levels fitted, outliers kept apart.

Hooper et al., "KVQuant: Towards 10 Million Context Length LLM Inference with KV Cache Quantization"
(arXiv 2401.18079). Bounds of channels of keys are fitted, as are the levels between them; bounds of
tokens are found as they come. What lies outside is kept in the tensor's dtype. The paper weighs
levels by how much the loss depends on a value, which a codec can't know: here they are k-means'.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray

from lamofcbench.bits import dtype_name, itemsize
from lamofcbench.bitstream import Coded
from lamofcbench.codecs.artefact import Artefact
from lamofcbench.codecs.base import Axes, Features
from lamofcbench.codecs.entropy import decode_levels, encode_levels
from lamofcbench.codecs.fitted import FittedCodec, calibration_rows, even_choice
from lamofcbench.codecs.options import decimal, known_only, whole
from lamofcbench.codecs.rows import (
    Matrix,
    from_rows,
    pack_parts,
    pack_values,
    role,
    rows_shape,
    take,
    to_rows,
    unpack_parts,
    unpack_values,
)
from lamofcbench.errors import BitstreamError
from lamofcbench.quant.kmeans import assign, fit_codebook
from lamofcbench.quant.rotary import find_base, rotate

__all__ = ["KVQuant"]

MOST_VALUES = 1 << 20
"""Values that levels are fitted on at most, an even choice of all."""
Mask = NDArray[np.bool_]


class KVQuant(FittedCodec):
    """``bits`` 1 to 8; ``outliers``, the share of each vector that is kept, 0.01 by default.

    What is no cache, which is not what the method is for, is quantised as keys are, but for the
    rotation: hidden states have massive channels.

    Payload: bounds of tokens (of caches of values), which values are outliers, those, and levels of
    the rest.
    """

    name = "kvquant"
    ladder = ("bits", tuple(str(bits) for bits in range(1, 9)))
    fit_parameters = ("bits", "outliers")

    def __init__(self, bits: int, outliers: float) -> None:
        """Quantise to 2^bits levels."""
        self.bits = bits
        self.outliers = outliers

    @classmethod
    def create(cls, parameters: Mapping[str, str], artefact: Artefact | None = None) -> Self:
        """See `Codec.create`."""
        known_only(cls.name, parameters, ("bits", "outliers"))
        bits = whole(parameters, "bits", 4, 1, 8)
        outliers = decimal(parameters, "outliers", 0.01, 0, 0.5)
        codec = cls(bits, outliers)
        codec.hold(artefact)
        return codec

    @property
    def parameters(self) -> dict[str, str]:
        """See `Codec.parameters`."""
        names = ("bits", "outliers")
        return {name: str(getattr(self, name)) for name in names}

    def fit(self, samples: Iterable[Features], axes: Axes) -> Artefact:
        """See `Codec.fit`: levels per key; base of rotation and bounds of channels of keys."""
        fields: dict[str, NDArray[Any]] = {}
        calibration, heads = calibration_rows(samples, axes)
        for key, parts in calibration.items():
            if role(key) != "v":
                dim = heads[key]
                base = find_base(parts, dim) if role(key) == "k" else 0.0
                rows = np.concatenate([rotate(part, dim, base, undo=True) for part in parts])
                low, high = self._channel_bounds(rows)
                fields |= {f"{key}/base": np.array([base]), f"{key}/dim": np.array([dim])}
                fields |= {f"{key}/low": low, f"{key}/high": high}
                apart = (rows < low) | (rows > high)
            else:
                rows = np.concatenate(parts).astype(np.float64)
                apart, low, high = self._token_bounds(rows)
            scaled = np.where(apart, np.nan, _normalise(rows, low, high))
            inside = even_choice(scaled, MOST_VALUES)
            inside = inside[np.isfinite(inside)]
            fields[f"{key}/levels"] = (
                fit_codebook(inside, 1 << self.bits) if len(inside) else np.zeros(1)
            )
        return self.make_artefact(fields)

    def _channel_bounds(self, rows: Matrix) -> tuple[Matrix, Matrix]:
        """Bounds [channels] that leave the share of outliers outside, half on either side."""
        if not len(rows):
            return np.zeros(rows.shape[1]), np.zeros(rows.shape[1])
        half = self.outliers / 2
        low = np.quantile(rows, half, axis=0, method="lower")
        high = np.quantile(rows, 1 - half, axis=0, method="higher")
        # As the artefact holds them, so that what is fitted within is within.
        return low.astype(np.float32).astype(np.float64), high.astype(np.float32).astype(np.float64)

    def _token_bounds(self, rows: Matrix) -> tuple[Mask, Matrix, Matrix]:
        """Which values are outliers of their row, and bounds [rows, 1] of the others."""
        apart = np.zeros(rows.shape, np.bool_)
        count = round(self.outliers * rows.shape[1])
        if not rows.size:
            return apart, np.zeros((len(rows), 1)), np.zeros((len(rows), 1))
        if count:
            far = np.abs(rows - np.median(rows, 1, keepdims=True))
            places = np.argpartition(far, -count, axis=1)[:, -count:]
            np.put_along_axis(apart, places, True, 1)
        low = np.where(apart, np.inf, rows).min(1, keepdims=True)
        high = np.where(apart, -np.inf, rows).max(1, keepdims=True)
        return apart, low, high

    def encode_tensor(self, key: str, values: torch.Tensor, axes: Sequence[str]) -> bytes:
        """See `Codec.encode_tensor`."""
        rows, dtype = to_rows(values, axes), dtype_name(values)
        levels = self.field(key, "levels", [None])
        ends = b""
        if role(key) != "v":
            dim, base, low, high = self._channels(key, rows.shape[1])
            rows = rotate(rows, dim, base, undo=True)
            apart = (rows < low) | (rows > high)
        else:
            apart, low, high = self._token_bounds(rows)
            ends = pack_values(low, dtype) + pack_values(high, dtype)
        inside = _normalise(rows, low, high)[~apart]
        exact = pack_values(rows[apart], dtype)
        coded = encode_levels(assign(inside, levels), self.bits)
        return ends + pack_parts(encode_levels(apart.astype(np.int32), 1), exact, coded)

    def _channels(self, key: str, channels: int) -> tuple[int, float, Matrix, Matrix]:
        """Size of a head, base of rotation and bounds of a cache of keys."""
        low, high = (self.field(key, name, [channels]) for name in ("low", "high"))
        dim, base = (float(self.field(key, name, [1])[0]) for name in ("dim", "base"))
        return int(dim), base, low, high

    def _decode(self, key: str, part: Coded) -> torch.Tensor:
        rows, channels = rows_shape(part.shape, part.axes)
        levels = self.field(key, "levels", [None])
        size = rows * itemsize(part.dtype) if role(key) == "v" else 0
        lows, highs, rest = take(part.payload, size, size)
        which, exact, coded = unpack_parts(rest, 3)
        apart = decode_levels(which, 1, part.elements).astype(np.bool_).reshape(rows, channels)
        if role(key) != "v":
            dim, base, low, high = self._channels(key, channels)
        else:
            low, high = (unpack_values(ends, part.dtype, (rows, 1)) for ends in (lows, highs))
        found = decode_levels(coded, self.bits, part.elements - int(apart.sum()))
        if found.size and found.max() >= len(levels):
            raise BitstreamError(f"has levels of {key} beyond its codebook")
        laid = np.zeros((rows, channels))
        laid[~apart] = levels[found]
        laid = low + (laid + 1) / 2 * (high - low)
        laid[apart] = unpack_values(exact, part.dtype, (int(apart.sum()),))
        if role(key) != "v":
            laid = rotate(laid, dim, base)
        return from_rows(laid, part.shape, part.axes, part.dtype)


def _normalise(rows: Matrix, low: Matrix, high: Matrix) -> Matrix:
    """Values between bounds to -1..1, and to 0 where there is nothing between."""
    span = np.broadcast_to(high - low, rows.shape)
    scaled: Matrix = np.divide(2 * (rows - low), span, out=np.ones_like(rows), where=span > 0) - 1
    return scaled
