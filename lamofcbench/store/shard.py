"""Shard files: a header, chunks in C order, and the index that Zarr's sharding codec defines."""

import contextlib
import hashlib
import itertools
import os
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
import numpy.typing as npt
from numcodecs import blosc

from lamofcbench.atomic import canonical_json
from lamofcbench.errors import IntegrityError
from lamofcbench.layout import ArrayLayout
from lamofcbench.manifest import FORMAT_VERSION, FileEntry
from lamofcbench.store.source import FileBytes, checked, map_file

__all__ = ["BLOSC_BLOCKSIZE", "HEADER_BYTES", "ShardFileReader", "ShardFileWriter", "shard_header"]

MAGIC = b"LMFCSHRD"
HEADER_BYTES = 64
ABSENT = 2**64 - 1
# Blosc's own choice of block size splits a chunk so finely that shuffling gains nothing.
BLOSC_BLOCKSIZE = 1 << 20

Array = npt.NDArray[Any]


def shard_header(config: str, profile: str, path: str, shard: int, request_sha256: str) -> bytes:
    """The 64 bytes that open a shard file and say which shard of which request it is."""
    digest = hashlib.sha256(
        canonical_json(
            {
                "config": config,
                "profile": profile,
                "key": path,
                "shard": shard,
                "request": request_sha256,
            }
        )
    ).digest()
    return MAGIC + struct.pack("<II", FORMAT_VERSION, 0) + digest + bytes(16)


def _slots(layout: ArrayLayout) -> Iterator[tuple[tuple[int, ...], int]]:
    """Chunk slots of a sample in C order: indices before the row axis, and the first row."""
    row = layout.row_index
    for at in itertools.product(*(range(n) for n in layout.grid)):
        yield at[:row], at[row] * layout.chunk[1 + row]


def _compress(raw: Array, layout: ArrayLayout) -> bytes:
    if layout.compression == "none":
        return raw.tobytes()
    # One thread: blosc's threads finish blocks in any order, which would change the bytes.
    shared, blosc.use_threads = blosc.use_threads, False
    try:
        packed: bytes = blosc.compress(
            raw, b"zstd", 1, blosc.SHUFFLE, BLOSC_BLOCKSIZE, typesize=raw.itemsize
        )
    finally:
        blosc.use_threads = shared
    return packed


class ShardFileWriter:
    """Appends samples to one shard file, chunk by chunk; holds no more than the index."""

    def __init__(self, path: Path, layout: ArrayLayout, header: bytes) -> None:
        """Open a temporary file at ``path``; nothing is valid before `finish`."""
        self._layout = layout
        self._file = path.open("wb")
        self._digest = hashlib.sha256()
        self._offset = 0
        self._slot = 0
        self._index = np.full((layout.shard[0] * layout.chunks_per_sample, 2), ABSENT, "<u8")
        self._put(header)

    def _put(self, data: bytes) -> None:
        self._file.write(data)
        self._digest.update(data)
        self._offset += len(data)

    def append(self, array: Array | None) -> None:
        """Append one sample.

        Args:
            array: in the stored axis order, of its actual length, in the stored dtype; None for a
                skipped sample, which has no chunks.
        """
        layout = self._layout
        length = 0 if array is None else array.shape[layout.ragged_index or 0]
        present = layout.present(length)
        rows = layout.chunk[1 + layout.row_index]
        for keep, (lead, start) in zip(present, _slots(layout), strict=True):
            if keep and array is not None:
                block = array[lead][start : start + rows]
                if len(block) < rows:
                    padded = np.zeros((rows, *block.shape[1:]), block.dtype)
                    padded[: len(block)] = block
                    block = padded
                body = _compress(np.ascontiguousarray(block), layout)
                body += struct.pack("<I", google_crc32c.value(body))
                self._index[self._slot] = self._offset, len(body)
                self._put(body)
            self._slot += 1

    def finish(self) -> FileEntry:
        """Write the index, make the file durable, close it, and return its size and hash."""
        index = self._index.tobytes()
        self._put(index + struct.pack("<I", google_crc32c.value(index)))
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        return FileEntry(bytes=self._offset, sha256=self._digest.hexdigest())

    def abort(self) -> None:
        """Close the file without finishing it, however full the disk is."""
        with contextlib.suppress(OSError):
            self._file.close()


class ShardFileReader:
    """Random access to the samples of one shard file."""

    def __init__(
        self,
        path: Path,
        layout: ArrayLayout,
        header: bytes,
        lengths: Sequence[int],
        num_bytes: int,
        mend: str,
        data: FileBytes | None = None,
    ) -> None:
        """Check all of a shard file that is not a chunk.

        Args:
            path: the file, or its name elsewhere.
            layout: of its array.
            header: the 64 bytes that it must begin with.
            lengths: per sample, of the ragged axis (1 without one); 0 if skipped.
            num_bytes: the size that the manifest states.
            mend: the last sentence of every error's message.
            data: the file's bytes; by default it is mapped.

        Raises:
            IntegrityError: missing, of another size, of another shard, or with a damaged index.
        """
        self._path = path
        self._layout = layout
        self._lengths = lengths
        self._mend = mend
        self._data = map_file(path, num_bytes, mend) if data is None else data
        self._held: list[tuple[int, memoryview]] = []
        self._end = num_bytes - 16 * layout.shard[0] * layout.chunks_per_sample - 4
        if self._end < HEADER_BYTES:
            raise self._error(f"{num_bytes} bytes, too few for its index")
        self._index = checked(self._data, lambda: self._open(header, num_bytes))

    def _open(self, header: bytes, num_bytes: int) -> npt.NDArray[np.uint64]:
        head, tail = self._data.read((0, HEADER_BYTES), (self._end, num_bytes))
        self._check_header(header, bytes(head))
        return self._read_index(tail)

    def _error(self, what: str) -> IntegrityError:
        return IntegrityError(f"{self._path}: {what}. {self._mend}")

    def _check_header(self, header: bytes, found: bytes) -> None:
        if found == header:
            return
        if found[:8] != MAGIC:
            raise self._error(f"begins with {found[:8]!r}, expected {MAGIC!r}")
        version = struct.unpack("<I", found[8:12])[0]
        if version != FORMAT_VERSION:
            raise self._error(f"format version {version}, expected {FORMAT_VERSION}")
        raise self._error("its header belongs to another shard, array, request or archive")

    def _read_index(self, tail: memoryview) -> npt.NDArray[np.uint64]:
        layout = self._layout
        raw = bytes(tail[:-4])
        if google_crc32c.value(raw) != int.from_bytes(tail[-4:], "little"):
            raise self._error("the checksum of its index does not match")
        index = np.frombuffer(raw, "<u8").reshape(layout.shard[0], -1, 2)
        expected = np.zeros(index.shape[:2], bool)
        for slot, length in enumerate(self._lengths):
            expected[slot] = layout.present(length)
        there = index[..., 0] != ABSENT
        if (there != expected).any():
            slot, chunk = (int(i) for i in np.argwhere(there != expected)[0])
            what = "is missing" if expected[slot, chunk] else "should not be there"
            raise self._error(f"chunk {chunk} of its sample {slot} {what}")
        used = index[there]
        ends = np.concatenate([[HEADER_BYTES], used.sum(axis=1)])
        if (used[:, 0] != ends[:-1]).any() or ends[-1] != self._end:
            raise self._error("its chunks do not follow one another without holes")
        return index

    def read(self, slot: int, shape: tuple[int, ...]) -> Array:
        """Read one sample.

        Args:
            slot: its place in the shard.
            shape: its shape in the stored order, `ArrayLayout.stored_shape`.

        Returns:
            A new array of that shape in the stored dtype.

        Raises:
            IntegrityError: a chunk fails its checksum or does not decode.
        """
        for start, held in tuple(self._held):
            if (span := self._span(slot, slot + 1)) and start <= span[0] < start + len(held):
                # If it fails its checksum, it is read again like any other.
                with contextlib.suppress(IntegrityError):
                    return self._read(slot, shape, held[span[0] - start : span[1] - start])
        return checked(self._data, lambda: self._read(slot, shape))

    @contextlib.contextmanager
    def holding(self, first: int, last: int) -> Iterator[None]:
        """Fetch samples ``first`` to ``last - 1`` at once, and keep their bytes in the context."""
        if (span := self._span(first, last)) is None:
            yield
            return
        (data,) = self._data.read(span)
        held = span[0], data
        self._held.append(held)
        try:
            yield
        finally:
            self._held.remove(held)

    def _span(self, first: int, last: int) -> tuple[int, int] | None:
        """Where the chunks of some samples lie, which follow one another; None without any."""
        spans = self._index[first:last].reshape(-1, 2)
        spans = spans[spans[:, 0] != ABSENT]
        return (int(spans[0, 0]), int(spans[-1].sum())) if len(spans) else None

    def _read(self, slot: int, shape: tuple[int, ...], held: memoryview | None = None) -> Array:
        layout = self._layout
        out = np.empty(shape, layout.storage)
        rows = layout.chunk[1 + layout.row_index]
        present = layout.present(self._lengths[slot])
        spans: list[list[int]] = self._index[slot].tolist()
        # A sample's chunks follow one another, so one range holds them all.
        used = [span for span, keep in zip(spans, present, strict=True) if keep]
        if not used:
            return out
        base = used[0][0]
        data = self._data.read((base, sum(used[-1])))[0] if held is None else held
        for chunk, (lead, start) in enumerate(_slots(layout)):
            if present[chunk]:
                offset, count = spans[chunk]
                body = data[offset - base : offset - base + count]
                self._decode(slot, chunk, body, out[lead][start : start + rows], rows)
        return out

    def _decode(self, slot: int, chunk: int, data: memoryview, block: Array, rows: int) -> None:
        body, stated = data[:-4], int.from_bytes(data[-4:], "little")
        if google_crc32c.value(bytes(body)) != stated:
            raise self._error(f"chunk {chunk} of its sample {slot} fails its checksum")
        whole = len(block) == rows
        target = block if whole else np.empty((rows, *block.shape[1:]), block.dtype)
        try:
            if self._layout.compression == "none":
                target[...] = np.frombuffer(body, target.dtype).reshape(target.shape)
            else:
                _blosc_size(body, target.nbytes)
                blosc.decompress(body, target)
        except (RuntimeError, ValueError) as error:
            raise self._error(f"chunk {chunk} of its sample {slot}: {error}") from None
        if not whole:
            block[...] = target[: len(block)]


def _blosc_size(body: memoryview, expected: int) -> None:
    """Refuse a chunk that claims another size than its array's chunks have."""
    found = int.from_bytes(body[4:8], "little")
    if found != expected:
        raise ValueError(f"decodes to {found} bytes, expected {expected}")
