"""Entropy coding of integer levels: a range coder with a table of frequencies, or plain bits.

The coder is constriction's (Bamler, "Understanding Entropy Coding With Asymmetric Numeral Systems",
2022). The table is part of the payload, since a decoder has no other way to know it; where it costs
more than it saves, levels are packed as plain bits.
"""

import numpy as np
from numpy.typing import NDArray

from lamofcbench.errors import BitstreamError
from lamofcbench.optional import require

__all__ = ["decode_levels", "encode_levels"]

PLAIN, CODED = 0, 1
TOTAL = 1 << 12
"""Frequencies sum to this."""
MOST_BITS = 16

Levels = NDArray[np.int32]


def _frequencies(levels: Levels, size: int) -> NDArray[np.uint16]:
    """Counts brought to a sum of about `TOTAL`; what occurs keeps at least 1."""
    counts = np.bincount(levels, minlength=size)
    scaled = np.where(counts > 0, np.maximum(counts * TOTAL // max(len(levels), 1), 1), 0)
    return scaled.astype(np.uint16)


def _pack_table(table: NDArray[np.uint16]) -> bytes:
    """Frequencies as LEB128, runs of zeros as a zero and their length."""
    out = bytearray()
    place = 0
    while place < len(table):
        value = int(table[place])
        if value:
            out += bytes([value]) if value < 128 else bytes([value & 127 | 128, value >> 7])
            place += 1
            continue
        run = 1
        while place + run < len(table) and not table[place + run] and run < 255:
            run += 1
        out += bytes([0, run])
        place += run
    return bytes(out)


def _unpack_table(data: bytes, size: int) -> tuple[NDArray[np.uint16], int]:
    """Read a table; return it and how many bytes it took."""
    table = np.zeros(size, np.uint16)
    place = at = 0
    while place < size:
        if at + 1 >= len(data):
            raise BitstreamError("has a table that is cut short")
        byte, after = data[at], data[at + 1]
        if byte == 0:
            if not 0 < after <= size - place:
                raise BitstreamError("has a table that is malformed")
            place, at = place + after, at + 2
        elif byte < 128:
            table[place] = byte
            place, at = place + 1, at + 1
        else:
            table[place] = byte & 127 | after << 7
            place, at = place + 1, at + 2
    return table, at


def _model(table: NDArray[np.uint16]) -> tuple[object | None, NDArray[np.int64]]:
    """A categorical model over the levels that occur, None if there is one; and those levels.

    Raises:
        BitstreamError: none occurs.
    """
    present = np.flatnonzero(table)
    if not len(present):
        raise BitstreamError("has a table without entries")
    if len(present) == 1:
        return None, present
    shares = table[present].astype(np.float64)
    stream = require("constriction", "codecs").stream
    return stream.model.Categorical(shares / shares.sum(), perfect=False), present


def encode_levels(levels: NDArray[np.integer], bits: int) -> bytes:
    """Code integers below 2^bits.

    Args:
        levels: any shape, in 0..2^bits - 1.
        bits: 1 to 16.

    Returns:
        A self-delimiting payload for `decode_levels`, which must be told bits and count.
    """
    flat = np.ascontiguousarray(levels, np.int32).ravel()
    plain = bytes([PLAIN]) + _to_bits(flat, bits)
    if not flat.size:
        return plain
    table = _frequencies(flat, 1 << bits)
    packed = _pack_table(table)
    if len(packed) + 1 >= len(plain):
        return plain
    model, present = _model(table)
    if model is None:
        return bytes([CODED]) + packed
    stream = require("constriction", "codecs").stream
    coder = stream.queue.RangeEncoder()
    symbols = np.zeros(1 << bits, np.int32)
    symbols[present] = np.arange(len(present), dtype=np.int32)
    coder.encode(symbols[flat], model)
    words: NDArray[np.uint32] = coder.get_compressed().astype("<u4")
    return min(bytes([CODED]) + packed + words.tobytes(), plain, key=len)


def decode_levels(payload: bytes, bits: int, count: int) -> Levels:
    """Decode what `encode_levels` made.

    Args:
        payload: its result.
        bits: as it was told.
        count: how many levels there are.

    Returns:
        int32 [count].

    Raises:
        BitstreamError: the payload is malformed.
    """
    if not payload or not 1 <= bits <= MOST_BITS:
        raise BitstreamError("has a payload that is malformed")
    kind, rest = payload[0], payload[1:]
    if kind == PLAIN:
        return _from_bits(rest, bits, count)
    if kind != CODED:
        raise BitstreamError(f"has levels coded in an unknown way, {kind}")
    table, used = _unpack_table(rest, 1 << bits)
    model, present = _model(table)
    if model is None:
        return np.full(count, present[0], np.int32)
    words = rest[used:]
    if len(words) % 4:
        raise BitstreamError("has a payload that is cut short")
    stream = require("constriction", "codecs").stream
    coder = stream.queue.RangeDecoder(np.frombuffer(words, "<u4").astype(np.uint32))
    try:
        symbols = coder.decode(model, count)
    except (AssertionError, ValueError) as error:
        raise BitstreamError(f"has levels that do not decode: {error}") from None
    levels: Levels = present[symbols].astype(np.int32)
    return levels


def _to_bits(levels: Levels, bits: int) -> bytes:
    places = np.arange(bits - 1, -1, -1)
    return np.packbits((levels[:, None] >> places & 1).astype(np.uint8)).tobytes()


def _from_bits(data: bytes, bits: int, count: int) -> Levels:
    if len(data) != (count * bits + 7) // 8:
        raise BitstreamError("has levels of another number than its shape")
    unpacked = np.unpackbits(np.frombuffer(data, np.uint8), count=count * bits)
    places = 1 << np.arange(bits - 1, -1, -1)
    levels: Levels = (unpacked.reshape(count, bits) @ places).astype(np.int32)
    return levels
