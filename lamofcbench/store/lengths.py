"""Length arrays: int64 over all samples in one chunk, followed by its checksum."""

import struct
from collections.abc import Sequence

import google_crc32c
import numpy as np

__all__ = ["decode_lengths", "encode_lengths", "lengths_path"]


def lengths_path(axis: str) -> str:
    """Path of an axis's only chunk, relative to the store."""
    return f"features.zarr/length/{axis}/c/0"


def encode_lengths(values: Sequence[int]) -> bytes:
    """The chunk's bytes."""
    body = np.asarray(values, "<i8").tobytes()
    return body + struct.pack("<I", google_crc32c.value(body))


def decode_lengths(data: bytes) -> list[int]:
    """Inverse of `encode_lengths`.

    Raises:
        ValueError: the checksum does not match.
    """
    body = data[:-4]
    if len(data) < 4 or google_crc32c.value(body) != int.from_bytes(data[-4:], "little"):
        raise ValueError("checksum does not match")
    values: list[int] = np.frombuffer(body, "<i8").tolist()
    return values
