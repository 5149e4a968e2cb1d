"""KVTC: principal components over all heads, bits where the variance is, first and last kept.

After "KV Cache Transform Coding for Compact Storage in LLM Inference" (arXiv 2511.01815). Rotation
of keys is undone and the mean removed; features of all heads of a token are one vector, whose
principal components are fitted. The paper allots bits by a dynamic programme and packs them with
DEFLATE; here they are allotted by reverse water-filling, which for a range coder with fitted tables
comes to one step for all components, and none for those below the water. The first tokens, which
models use as sinks, and the last are coded apart, with 8 bits and bounds of their own.
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
from lamofcbench.codecs.fitted import FittedCodec, calibration_rows
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
from lamofcbench.codecs.tables import Tables, to_symbols
from lamofcbench.quant.grouped import dequantise_groups, group_bounds, quantise_groups
from lamofcbench.quant.rotary import find_base, rotate
from lamofcbench.quant.water import fill_water

__all__ = ["Kvtc"]

FINE_BITS = 8
REACH = 63
ROWS_A_CHANNEL = 2
"""With fewer calibration rows a channel there are no components: channels stand for themselves."""


class Kvtc(FittedCodec):
    """``rate`` in bits per value, 4 by default; ``sink`` first tokens, 1, ``window`` last, 4."""

    name = "kvtc"
    ladder = ("rate", tuple(str(quarters / 4) for quarters in range(1, 41)))
    fit_parameters = ("rate", "sink", "window")

    def __init__(self, rate: float, sink: int, window: int) -> None:
        """Allot ``rate`` bits per value."""
        self.rate = rate
        self.sink = sink
        self.window = window

    @classmethod
    def create(cls, parameters: Mapping[str, str], artefact: Artefact | None = None) -> Self:
        """See `Codec.create`."""
        known_only(cls.name, parameters, ("rate", "sink", "window"))
        codec = cls(
            decimal(parameters, "rate", 4, 0.05, 16),
            whole(parameters, "sink", 1, 0, 1 << 16),
            whole(parameters, "window", 4, 0, 1 << 16),
        )
        codec.hold(artefact)
        return codec

    @property
    def parameters(self) -> dict[str, str]:
        """See `Codec.parameters`."""
        return {"rate": str(self.rate), "sink": str(self.sink), "window": str(self.window)}

    def _apart(self, rows: int) -> NDArray[np.bool_]:
        """Which tokens are coded apart."""
        places = np.arange(rows)
        return (places < self.sink) | (places >= rows - self.window)

    def fit(self, samples: Iterable[Features], axes: Axes) -> Artefact:
        """See `Codec.fit`: rotation, mean, components, step and tables per key."""
        calibration, heads = calibration_rows(samples, axes)
        fields: dict[str, NDArray[Any]] = {}
        for key, parts in calibration.items():
            dim = heads[key]
            base = find_base(parts, dim) if role(key) == "k" else 0.0
            plain = [rotate(part, dim, base, undo=True) for part in parts]
            rows = np.concatenate([part[~self._apart(len(part))] for part in plain])
            if not len(rows):
                rows = np.concatenate(plain)
            mean = _single(rows.mean(0)) if len(rows) else np.zeros(rows.shape[1])
            basis, spread = _components(rows - mean)
            water = fill_water(spread, self.rate)
            kept = spread > water
            step = _single(np.array([np.sqrt(12 * water) or 1.0]))
            places = np.flatnonzero(kept)
            inside = _project(rows - mean, basis, places)
            fields |= {f"{key}/rotation": np.array([base, dim]), f"{key}/mean": mean}
            fields |= {f"{key}/step": step, f"{key}/places": places}
            if basis is not None:
                fields[f"{key}/basis"] = basis[:, kept]
            fields |= Tables.fit(to_symbols(inside, step), REACH).fields(f"{key}/tables")
        return self.make_artefact(fields)

    def _fields(
        self, key: str, channels: int
    ) -> tuple[tuple[int, float], Matrix, Matrix | None, NDArray[np.int64], Matrix, Tables]:
        """Rotation, mean, basis, places of components, step and tables."""
        base, dim = self.field(key, "rotation", [2])
        mean = self.field(key, "mean", [channels])
        places = self.field(key, "places", [None]).astype(np.int64)
        tables = Tables.held(self, key, "tables", len(places))
        basis = (
            self.field(key, "basis", [channels, len(places)]) if self.has(key, "basis") else None
        )
        return (int(dim), float(base)), mean, basis, places, self.field(key, "step", [1]), tables

    def encode_tensor(self, key: str, values: torch.Tensor, axes: Sequence[str]) -> bytes:
        """See `Codec.encode_tensor`."""
        rows, dtype = to_rows(values, axes), dtype_name(values)
        rotation, mean, basis, places, step, tables = self._fields(key, rows.shape[1])
        apart = self._apart(len(rows))
        fine = rows[apart]
        low, high = group_bounds(fine, 1, max(1, rows.shape[1]))
        levels = quantise_groups(fine, low, high, 1, max(1, rows.shape[1]), FINE_BITS)
        ends = pack_values(low, dtype) + pack_values(high, dtype)
        body = rotate(rows, *rotation, undo=True)[~apart] - mean
        kept = body[:, places] if basis is None else body @ basis
        return ends + pack_parts(
            encode_levels(levels, FINE_BITS), tables.encode(to_symbols(kept, step))
        )

    def _decode(self, key: str, part: Coded) -> torch.Tensor:
        rows, channels = rows_shape(part.shape, part.axes)
        rotation, mean, basis, places, step, tables = self._fields(key, channels)
        apart = self._apart(rows)
        few, width = int(apart.sum()), max(1, channels)
        size = few * bool(channels) * itemsize(part.dtype)
        lows, highs, rest = take(part.payload, size, size)
        one, other = unpack_parts(rest, 2)
        kept = tables.decode(other, rows - few) * step
        laid = np.zeros((rows, channels))
        body = np.zeros((rows - few, channels))
        if basis is None:
            body[:, places] = kept
        else:
            body = kept @ basis.T
        laid[~apart] = body + mean
        laid = rotate(laid, *rotation)
        shape = (few, int(bool(channels)))
        low, high = (unpack_values(ends, part.dtype, shape) for ends in (lows, highs))
        levels = decode_levels(one, FINE_BITS, few * channels).reshape(few, channels)
        laid[apart] = dequantise_groups(levels, low, high, 1, width, FINE_BITS)
        return from_rows(laid, part.shape, part.axes, part.dtype)


def _single(values: Matrix) -> Matrix:
    """As an artefact holds it."""
    return values.astype(np.float32).astype(np.float64)


def _components(rows: Matrix) -> tuple[Matrix | None, Matrix]:
    """Principal axes [channels, components], None for the channels themselves; variances."""
    if len(rows) < ROWS_A_CHANNEL * rows.shape[1]:
        spread: Matrix = rows.var(0) if len(rows) else np.zeros(rows.shape[1])
        return None, spread
    spread, basis = np.linalg.eigh(rows.T @ rows / len(rows))
    # Signs and order are free: fixed here, so that the same rows give the same artefact.
    signs = np.sign(basis[np.abs(basis).argmax(0), np.arange(len(spread))])
    return _single(basis * signs)[:, ::-1], np.maximum(spread[::-1], 0)


def _project(rows: Matrix, basis: Matrix | None, places: NDArray[np.int64]) -> Matrix:
    return rows[:, places] if basis is None else rows @ basis[:, places]
