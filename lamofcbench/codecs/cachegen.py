"""CacheGen: anchor tokens, deltas to them, coarser in later layers, and models by channel.

Liu et al., "CacheGen: KV Cache Compression and Streaming for Fast Large Language Model Serving"
(arXiv 2310.07240). Every tenth token is an anchor of 8 bits; the tokens that follow it are coded as
differences from what a decoder has of it. Layers are split into thirds, whose deltas have steps of
1, 2 and 3 times ``bin``, in deviations of a channel. Steps and the frequencies of each channel's
symbols are fitted.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray

from lamofcbench.bitstream import Coded
from lamofcbench.codecs.artefact import Artefact
from lamofcbench.codecs.base import Axes, Features
from lamofcbench.codecs.fitted import FittedCodec, calibration_rows
from lamofcbench.codecs.options import decimal, known_only, whole
from lamofcbench.codecs.rows import (
    Matrix,
    from_rows,
    pack_parts,
    role,
    rows_shape,
    to_rows,
    unpack_parts,
)
from lamofcbench.codecs.tables import Symbols, Tables, to_symbols

__all__ = ["CacheGen"]

ANCHOR_LEVELS = 255
MOST_REACH = 127
DEVIATIONS = 8
"""How many deviations a table of deltas reaches."""
LAYER = re.compile(r"(?:^|\.)layer\.(\d+)\.")


class CacheGen(FittedCodec):
    """``bin`` 0.2 by default; ``every``, tokens from one anchor to the next, 10 by default."""

    name = "cachegen"
    ladder = (
        "bin",
        ("4", "3", "2", "1.5", "1", "0.7", "0.5", "0.35", "0.25", "0.18", "0.12", "0.08", "0.05"),
    )
    fit_parameters = ("bin", "every")

    def __init__(self, size: float, every: int) -> None:
        """Quantise deltas with steps of ``size`` deviations."""
        self.bin = size
        self.every = every

    @classmethod
    def create(cls, parameters: Mapping[str, str], artefact: Artefact | None = None) -> Self:
        """See `Codec.create`."""
        known_only(cls.name, parameters, ("bin", "every"))
        size = decimal(parameters, "bin", 0.2, 0.01, 10)
        codec = cls(size, whole(parameters, "every", 10, 1, 1 << 16))
        codec.hold(artefact)
        return codec

    @property
    def parameters(self) -> dict[str, str]:
        """See `Codec.parameters`."""
        return {"bin": str(self.bin), "every": str(self.every)}

    def fit(self, samples: Iterable[Features], axes: Axes) -> Artefact:
        """See `Codec.fit`: centres, steps and tables per key."""
        calibration, _ = calibration_rows(samples, axes)
        layers = sorted({layer for key in calibration if (layer := _layer(key)) is not None})
        fields: dict[str, NDArray[Any]] = {}
        for key, parts in calibration.items():
            layer = _layer(key)
            third = 0 if layer is None else layers.index(layer) * 3 // len(layers)
            wide = [part.astype(np.float64) for part in parts]
            anchors = np.concatenate([part[:: self.every] for part in wide])
            centre, span = _middle(anchors)
            step = _positive(span / ANCHOR_LEVELS, np.abs(centre).astype(np.float64))
            coded = to_symbols(anchors - centre, step)
            deltas = np.concatenate([self._deltas(part, centre, step)[1] for part in wide])
            scale = np.sqrt((deltas**2).mean(0)) if len(deltas) else np.zeros_like(centre)
            fine = _positive(self.bin * (third + 1) * scale, step)
            reach = int(min(MOST_REACH, max(2, np.ceil(DEVIATIONS / (self.bin * (third + 1))))))
            fields |= {f"{key}/centre": centre, f"{key}/step": step, f"{key}/delta": fine}
            fields |= Tables.fit(coded.reshape(-1, 1), MOST_REACH).fields(f"{key}/anchors")
            fields |= Tables.fit(to_symbols(deltas, fine), reach).fields(f"{key}/deltas")
        return self.make_artefact(fields)

    def _deltas(self, rows: Matrix, centre: Matrix, step: Matrix) -> tuple[Symbols, Matrix]:
        """Symbols of anchors, and differences of other tokens from the anchor before them."""
        coded = to_symbols(rows[:: self.every] - centre, step)
        anchors = np.repeat(centre + coded * step, self.every, axis=0)[: len(rows)]
        return coded, (rows - anchors)[np.arange(len(rows)) % self.every > 0]

    def _fields(self, key: str, channels: int) -> tuple[Matrix, Matrix, Matrix, Tables, Tables]:
        centre, step, fine = (
            self.field(key, name, [channels]) for name in ("centre", "step", "delta")
        )
        tables = Tables.held(self, key, "anchors", 1), Tables.held(self, key, "deltas", channels)
        return centre, step, fine, *tables

    def encode_tensor(self, key: str, values: torch.Tensor, axes: Sequence[str]) -> bytes:
        """See `Codec.encode_tensor`."""
        rows = to_rows(values, axes)
        centre, step, fine, anchors, deltas = self._fields(key, rows.shape[1])
        coded, rest = self._deltas(rows, centre, step)
        return pack_parts(
            anchors.encode(coded.reshape(-1, 1)), deltas.encode(to_symbols(rest, fine))
        )

    def _decode(self, key: str, part: Coded) -> torch.Tensor:
        rows, channels = rows_shape(part.shape, part.axes)
        centre, step, fine, anchors, deltas = self._fields(key, channels)
        one, other = unpack_parts(part.payload, 2)
        count = -(-rows // self.every)
        coded = anchors.decode(one, count * channels).reshape(count, channels)
        laid = np.repeat(centre + coded * step, self.every, axis=0)[:rows]
        laid[np.arange(rows) % self.every > 0] += deltas.decode(other, rows - count) * fine
        return from_rows(laid, part.shape, part.axes, part.dtype)


def _layer(key: str) -> int | None:
    """The number of the layer that a cache is of; None for what is no cache."""
    found = LAYER.search(key)
    return int(found[1]) if found and role(key) != "other" else None


def _middle(rows: Matrix) -> tuple[Matrix, Matrix]:
    """Middle and range of each channel, as an artefact holds them."""
    if not len(rows):
        return np.zeros(rows.shape[1]), np.zeros(rows.shape[1])
    low, high = rows.min(0), rows.max(0)
    return ((low + high) / 2).astype(np.float32).astype(np.float64), high - low


def _positive(step: Matrix, size: Matrix) -> Matrix:
    """Steps as an artefact holds them; a channel that never changed gets a small one."""
    least = np.maximum(size * 2.0**-10, 1e-6)
    return np.where(step > 0, step, least).astype(np.float32).astype(np.float64)
