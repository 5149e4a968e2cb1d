"""Range coding of signed symbols with a table of frequencies per channel, fitted beforehand.

A symbol is split into its upper part, which the table models, and as many lower bits as keep the
table small, which are taken to be uniform. An upper part beyond the table is escaped.
"""

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from lamofcbench.codecs.fitted import FittedCodec
from lamofcbench.codecs.rows import pack_integer, pack_parts, unpack_integer, unpack_parts
from lamofcbench.errors import BitstreamError, SampleError
from lamofcbench.optional import require

__all__ = ["MOST_SYMBOL", "Symbols", "Tables", "to_symbols"]

Symbols = NDArray[np.int64]
MOST_SYMBOL = 1 << 40
"""Magnitude of a symbol at most."""
TOTAL = 1 << 14
"""Frequencies of a table sum to about this; each is at least 1."""
PRIOR = 16.0
"""How many symbols the table of all channels together counts for in a channel's own."""
MOST_SHIFT = 20


@dataclass(frozen=True)
class Tables:
    """Frequencies per channel.

    Attributes:
        counts: [channels, 2 reach + 2]: upper parts -reach to reach, then the escape.
        shifts: [channels]: lower bits that are not modelled.
    """

    counts: NDArray[np.float64]
    shifts: NDArray[np.int64]

    @property
    def reach(self) -> int:
        """Largest upper part in the table."""
        return int(self.counts.shape[1]) // 2 - 1

    @classmethod
    def fit(cls, symbols: Symbols, reach: int) -> Self:
        """Count symbols [rows, channels], and mix in the counts of all channels together."""
        rows, channels = symbols.shape
        most = np.quantile(np.abs(symbols), 0.999, axis=0) if rows else np.zeros(channels)
        bits = np.ceil(np.log2(np.maximum(most, 1) / reach))
        shifts = np.clip(bits, 0, MOST_SHIFT).astype(np.int64)
        size = 2 * reach + 2
        places = _places(symbols >> shifts, reach)
        flat = (places + np.arange(channels) * size).ravel()
        counts = np.bincount(flat, minlength=channels * size).reshape(channels, size)
        pooled = counts.sum(0) + 0.05
        mixed = counts + PRIOR * pooled / pooled.sum()
        shares = mixed / mixed.sum(1, keepdims=True)
        return cls(np.maximum(np.rint(shares * TOTAL), 1), shifts)

    def fields(self, prefix: str) -> dict[str, NDArray[Any]]:
        """As tensors of an artefact."""
        return {f"{prefix}.counts": self.counts, f"{prefix}.shifts": self.shifts}

    @classmethod
    def held(cls, codec: FittedCodec, key: str, prefix: str, channels: int | None) -> Self:
        """From the artefact that a codec holds.

        Raises:
            BitstreamError, SampleError: see `FittedCodec.field`.
        """
        counts = codec.field(key, f"{prefix}.counts", [channels, None])
        shifts = codec.field(key, f"{prefix}.shifts", [len(counts)])
        if counts.shape[1] < 4 or counts.shape[1] % 2 or not (counts >= 1).all():
            raise SampleError(f"{key}: the artefact has tables that are malformed")
        if not ((shifts >= 0) & (shifts <= MOST_SHIFT)).all():
            raise SampleError(f"{key}: the artefact has tables that are malformed")
        return cls(counts, shifts.astype(np.int64))

    def _models(self, channel: int) -> tuple[Any, Any]:
        model = require("constriction", "codecs").stream.model
        shares = self.counts[channel] / self.counts[channel].sum()
        shift = int(self.shifts[channel])
        return model.Categorical(shares, perfect=False), model.Uniform(
            1 << shift
        ) if shift else None

    def encode(self, symbols: Symbols) -> bytes:
        """Code symbols [rows, channels], channel by channel."""
        coder = require("constriction", "codecs").stream.queue.RangeEncoder()
        upper = symbols >> self.shifts
        places = _places(upper, self.reach)
        for channel in range(symbols.shape[1] if len(symbols) else 0):
            table, rest = self._models(channel)
            coder.encode(np.ascontiguousarray(places[:, channel], np.int32), table)
            if rest is not None:
                lower = symbols[:, channel] & ((1 << int(self.shifts[channel])) - 1)
                coder.encode(lower.astype(np.int32), rest)
        beyond = upper.T[(places == 2 * self.reach + 1).T].tolist()
        escaped = b"".join(pack_integer(2 * v if v >= 0 else -2 * v - 1) for v in beyond)
        return pack_parts(escaped, coder.get_compressed().astype("<u4").tobytes())

    def decode(self, payload: bytes, rows: int) -> Symbols:
        """Undo `encode`.

        Raises:
            BitstreamError: the payload is malformed.
        """
        escaped, words = unpack_parts(payload, 2)
        if len(words) % 4:
            raise BitstreamError("has a payload that is cut short")
        if rows and len(self.counts) and not words:
            raise BitstreamError("has a payload without symbols")
        stream = require("constriction", "codecs").stream
        coder = stream.queue.RangeDecoder(np.frombuffer(words, "<u4").astype(np.uint32))
        symbols = np.zeros((rows, len(self.counts)), np.int64)
        escape = 2 * self.reach + 1
        for channel in range(len(self.counts) if rows else 0):
            table, rest = self._models(channel)
            lower: int | NDArray[np.int64] = 0
            try:
                places = coder.decode(table, rows).astype(np.int64)
                if rest is not None:
                    lower = coder.decode(rest, rows).astype(np.int64)
            except (AssertionError, ValueError) as error:
                raise BitstreamError(f"has symbols that do not decode: {error}") from None
            upper = places - self.reach
            for row in np.flatnonzero(places == escape):
                value, escaped = unpack_integer(escaped)
                if value > 2 * MOST_SYMBOL:
                    raise BitstreamError("has a symbol that is too large")
                upper[row] = value // 2 if value % 2 == 0 else -(value + 1) // 2
            symbols[:, channel] = (upper << self.shifts[channel]) + lower
        if escaped or not coder.maybe_exhausted():
            raise BitstreamError("has a payload that is longer than its symbols")
        return symbols


def _places(upper: Symbols, reach: int) -> NDArray[np.int64]:
    """Places in a table, the last for what is beyond."""
    places: NDArray[np.int64] = np.where(np.abs(upper) <= reach, upper + reach, 2 * reach + 1)
    return places


def to_symbols(values: NDArray[np.float64], step: NDArray[np.float64]) -> Symbols:
    """Nearest multiples of a step."""
    limited = np.clip(np.rint(values / step), -MOST_SYMBOL, MOST_SYMBOL)
    return limited.astype(np.int64)
