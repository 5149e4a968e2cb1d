"""CompressAI's range coder, kept within the bytes that it is given, and checked.

Its decoder reads on beyond the end of a string that was altered. Here zeros follow every string,
as many as it could read; and both sides hash the integers that they code, so that a decoder that
arrives at other ones, be it for an altered string or because its processor rounds otherwise, says
so.
"""

from typing import Any

import google_crc32c
import numpy as np

__all__ = ["CheckedCoder", "check_coders"]

Tables = list[list[int]]
ROOM = 1024
PER_SYMBOL = {"GaussianConditional": 8, "EntropyBottleneck": 80}
"""Bytes that one integer can make the decoder read when only zeros are left: two, but for tables
whose first entry is likely, in which an escape of up to 135 nibbles may come again and again."""
CHECK_BYTES = 2


class _Sums:
    """Checksums of the integers of one tensor, over all of a network's coders."""

    def __init__(self) -> None:
        self.encoded = 0
        self.decoded = 0

    def reset(self) -> None:
        self.encoded = self.decoded = 0


class CheckedCoder:
    """Stands in for an entropy model's coder.

    Attributes:
        name: as CompressAI's own have.
    """

    name = "ans"

    def __init__(self, model: Any, sums: _Sums) -> None:
        """Take over from the coder of an entropy model whose tables are up to date."""
        self._coder = model.entropy_coder
        self._sums = sums
        self._room = PER_SYMBOL[type(model).__name__]
        lengths = model.cdf_length.tolist()
        # CompressAI's tables are padded to the longest one, and handed over whole for each string.
        self._tables = [
            row[:length] for row, length in zip(model.quantized_cdf.tolist(), lengths, strict=True)
        ]

    def encode_with_indexes(
        self,
        symbols: list[int],
        indexes: list[int],
        _tables: Tables,
        lengths: list[int],
        offsets: list[int],
    ) -> bytes:
        """Code integers, each by the table of its index."""
        data = np.asarray(symbols, "<i4").tobytes()
        self._sums.encoded = google_crc32c.extend(self._sums.encoded, data)
        coded: bytes = self._coder.encode_with_indexes(
            symbols, indexes, self._tables, lengths, offsets
        )
        return coded

    def decode_with_indexes(
        self,
        string: bytes,
        indexes: list[int],
        _tables: Tables,
        lengths: list[int],
        offsets: list[int],
    ) -> list[int]:
        """Decode as many integers as there are indexes."""
        padded = string + bytes(ROOM + self._room * len(indexes))
        symbols: list[int] = self._coder.decode_with_indexes(
            padded, indexes, self._tables, lengths, offsets
        )
        data = np.asarray(symbols, "<i4").tobytes()
        self._sums.decoded = google_crc32c.extend(self._sums.decoded, data)
        return symbols


def check_coders(network: Any, models: tuple[Any, ...]) -> _Sums:
    """Put a `CheckedCoder` into every entropy model of a network.

    Args:
        network: with its tables up to date.
        models: CompressAI's classes of entropy models.

    Returns:
        The checksums, which all of them share.
    """
    sums = _Sums()
    for module in network.modules():
        if isinstance(module, models):
            module.entropy_coder = CheckedCoder(module, sums)
            # Each string would have the whole table made into lists, of which nothing is read.
            module._quantized_cdf = module._quantized_cdf[:, :1].clone()
    return sums
