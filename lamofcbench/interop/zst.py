"""A ``torch.save`` file inside zstd, which is what the reference's files are."""

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import torch

from lamofcbench.errors import SourceError
from lamofcbench.interop.output import fresh_file
from lamofcbench.interop.unpickle import load_tensors

__all__ = ["MOST_BYTES", "read_zst", "write_zst"]

MOST_BYTES = 16 << 30
"""What a file may hold uncompressed where nothing better is known: four times the largest kind."""
MAGIC = b"\x28\xb5\x2f\xfd"
PIECE = 1 << 20


def read_zst(path: Path, *, shapes_only: bool = False, most: int = MOST_BYTES) -> Any:
    """Read tensors in plain containers from a zstd file; see `load_tensors` for what is refused.

    Memory is that of the tensors: the uncompressed file lies in a temporary file meanwhile.

    Args:
        path: the file.
        shapes_only: as for `load_tensors`.
        most: bytes that it may hold uncompressed.

    Raises:
        SourceError: it is cut, altered, larger than ``most`` or than its frame says, or holds
            anything but tensors and plain containers; the message names it.
    """
    try:
        with _uncompressed(path, most) as file:
            return load_tensors(file, shapes_only=shapes_only)
    except SourceError as error:
        raise SourceError(f"{path}: {error}") from None


@contextlib.contextmanager
def _uncompressed(path: Path, most: int) -> Iterator[BinaryIO]:
    try:
        with path.open("rb") as start:
            declared = _content_bytes(start.read(18))
        if declared is not None and declared > most:
            raise SourceError(f"says that it holds {declared} bytes, at most {most} are read")
        bound = most if declared is None else declared
        with tempfile.TemporaryFile() as file:
            total = 0
            with pa.CompressedInputStream(pa.OSFile(str(path)), "zstd") as stream:
                while piece := stream.read(PIECE):
                    total += len(piece)
                    if total > bound:
                        raise SourceError(f"holds more than {bound} bytes: refused")
                    file.write(piece)
            if declared is not None and total != declared:
                raise SourceError(f"holds {total} bytes, its frame says {declared}")
            yield file
    except OSError as error:
        said = " ".join(str(error.strerror or error).split())
        raise SourceError(f"cannot be read as zstd: {said}") from None


def _content_bytes(start: bytes) -> int | None:
    """What the first frame says of its uncompressed size (RFC 8878, 3.1.1.1); None if nothing."""
    if start[:4] != MAGIC or len(start) < 6:
        raise SourceError("not a zstd file")
    descriptor = start[4]
    single, flag = descriptor >> 5 & 1, descriptor >> 6
    width = (1 if single else 0, 2, 4, 8)[flag]
    at = 5 + (1 - single) + (0, 1, 2, 4)[descriptor & 3]
    if not width:
        return None
    return int.from_bytes(start[at : at + width], "little") + (256 if width == 2 else 0)


def write_zst(path: Path, value: Any) -> None:
    """Write tensors in plain containers as a zstd file, whole or not at all.

    Raises:
        SampleError: the disk is full or the folder cannot be written.
    """
    with (
        fresh_file(path) as temporary,
        pa.CompressedOutputStream(pa.OSFile(str(temporary), "wb"), "zstd") as stream,
    ):
        torch.save(value, stream)
