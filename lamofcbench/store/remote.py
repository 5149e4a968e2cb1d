"""A published store, read in ranges: the manifest first, of the rest no more than is used."""

import mmap
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from lamofcbench.atomic import sha256_bytes
from lamofcbench.errors import IntegrityError
from lamofcbench.layout import build_layouts
from lamofcbench.manifest import MANIFEST, FileEntry, Manifest, parse_manifest
from lamofcbench.store.lanes import Once
from lamofcbench.store.source import ByteSource, FileBytes, checked
from lamofcbench.store.state import StoreState
from lamofcbench.store.tables import length_column, table_path

__all__ = ["RemoteSource", "load_published"]

# A table of no more bytes comes whole: that costs less than asking three times.
SMALL_TABLE = 8192
MAX_TABLE = 1 << 30
MAGIC = b"PAR1"


class RemoteSource(ByteSource, Protocol):
    """A store elsewhere, at a revision that never changes."""

    def manifest(self) -> bytes:
        """The manifest's bytes, checked against its published hash."""


def load_published(source: RemoteSource) -> StoreState:
    """Read a published store's manifest; sample tables follow when a row of theirs is used.

    Raises:
        IntegrityError: the manifest is damaged, or that of another store.
        FormatVersionError: a newer version of this package wrote it.
    """
    where = source.store / MANIFEST
    manifest = parse_manifest(source.manifest(), where, source.remedy)
    named, place = (manifest.config, manifest.profile), source.store.parts[-2:]
    if named != place:
        raise IntegrityError(f"{where}: it is that of {'/'.join(named)}. {source.remedy}")
    _check(manifest, where, source.remedy)
    shards = {shard.index: shard for shard in manifest.shards}
    return StoreState(source.store, manifest, shards, manifest.files, _Rows(source, manifest))


def _check(manifest: Manifest, where: Path, remedy: str) -> None:
    """Refuse a manifest by strangers that would have us allocate or divide by what it likes."""
    if manifest.layouts != build_layouts(manifest.declaration, manifest.profile, manifest.samples):
        raise IntegrityError(f"{where}: its arrays are not those that it declares. {remedy}")
    ragged = {str(axis): size.max for axis, size in manifest.declaration.ragged.items()}
    for shard in manifest.shards:
        if shard.lengths.keys() != ragged.keys():
            raise IntegrityError(f"{where}: shard {shard.index}: lengths of other axes. {remedy}")
        for axis, lengths in shard.lengths.items():
            if max(lengths) > ragged[axis]:
                raise IntegrityError(
                    f"{where}: shard {shard.index}: a {axis} length of {max(lengths)}, "
                    f"declared at most {ragged[axis]}. {remedy}"
                )


class _Rows(dict[int, dict[str, Any]]):
    """Rows of the sample tables, by store row; a shard's are fetched when one is asked for."""

    def __init__(self, source: RemoteSource, manifest: Manifest) -> None:
        super().__init__()
        self._source = source
        self._manifest = manifest
        self._tables = Once(len(manifest.splits))
        # Rows stay here; this is for those that are asked for twice at the same time.
        self._groups = Once(16)

    def __missing__(self, row: int) -> dict[str, Any]:
        manifest = self._manifest
        split = next((s for s in manifest.splits if row in manifest.split_rows(s)), None)
        if split is None:
            raise KeyError(row)
        table = self._tables.get(split, lambda: self._open(split))
        group = table.find(row - manifest.split_rows(split).start)
        self.update(self._groups.get((split, group), lambda: self._load(split, table, group)))
        return self[row]

    def _open(self, split: str) -> "_Table":
        path = table_path(split)
        name = self._source.store / path
        if (entry := self._manifest.files.get(path)) is None:
            raise IntegrityError(f"{name}: not in the manifest. {self._source.remedy}")
        file = self._source.open(path, entry)
        count = len(self._manifest.split_rows(split))
        return checked(file, lambda: _Table(name, file, entry, count, remedy=self._source.remedy))

    def _load(self, split: str, table: "_Table", group: int) -> dict[int, dict[str, Any]]:
        start = self._manifest.split_rows(split).start

        def load() -> dict[int, dict[str, Any]]:
            rows = table.load(group)
            first = start + table.starts[group]
            for row, values in enumerate(rows, first):
                if fault := self._fault(row, values):
                    raise table.error(f"sample {row}: {fault}")
            return dict(enumerate(rows, first))

        return checked(table.file, load)

    def _fault(self, row: int, values: Mapping[str, Any]) -> str:
        """How a row of a table contradicts the manifest; nothing if it doesn't."""
        shard, slot = divmod(row, self._manifest.samples_per_shard)
        entry = self._manifest.shards[shard]
        status = "skipped" if row in entry.skipped else "ok"
        stated = {"index": row, "id": entry.samples[slot], "status": status}
        stated |= {length_column(axis): n[slot] for axis, n in entry.lengths.items()}
        for column, value in stated.items():
            if (found := values.get(column)) != value and (found, value) != (None, 0):
                return f"{column} {found!r}, manifest {value!r}"
        return ""


class _Table:
    """One Parquet file, of which only the footer and some row groups are fetched."""

    def __init__(
        self, name: Path, file: FileBytes, entry: FileEntry, count: int, *, remedy: str
    ) -> None:
        self.file = file
        self._name = name
        self._remedy = remedy
        size = entry.bytes
        if not 12 <= size <= MAX_TABLE:
            raise self.error(f"{size} bytes cannot be a table")
        # As large as the file, but no memory is taken where nothing is written.
        self._data = mmap.mmap(-1, size)
        self._whole = size <= SMALL_TABLE
        self._end = 0
        if self._whole:
            self._fetch(0, size)
            if (found := sha256_bytes(self._data[:])) != entry.sha256:
                raise self.error(f"sha256 {found}, expected {entry.sha256}")
        else:
            self._fetch(size - 8, size)
            self._end = size - 8 - int.from_bytes(self._data[-8:-4], "little")
            if self._data[-4:] != MAGIC or self._end < len(MAGIC):
                raise self.error("does not end as a Parquet file")
            self._fetch(self._end, size - 8)
        try:
            self._metadata = pq.read_metadata(pa.BufferReader(pa.py_buffer(self._data)))
        except (pa.ArrowException, OSError) as error:
            raise self.error(f"its footer cannot be read: {_line(error)}") from None
        self.starts = [0]
        for group in range(self._metadata.num_row_groups):
            self.starts.append(self.starts[-1] + self._metadata.row_group(group).num_rows)
        if self.starts[-1] != count:
            raise self.error(f"{self.starts[-1]} rows, expected {count}")

    def error(self, what: str) -> IntegrityError:
        """An error that names the file."""
        return IntegrityError(f"{self._name}: {what}. {self._remedy}")

    def _fetch(self, start: int, stop: int) -> None:
        (data,) = self.file.read((start, stop))
        self._data[start:stop] = bytes(data)

    def find(self, position: int) -> int:
        """The row group that holds a row."""
        return next(g for g, start in enumerate(self.starts[1:]) if position < start)

    def load(self, group: int) -> list[dict[str, Any]]:
        """Rows of one row group, checked by their pages' checksums if it has any."""
        meta = self._metadata.row_group(group)
        columns = [meta.column(i) for i in range(meta.num_columns)]
        starts = [
            min(filter(None, (c.data_page_offset, c.dictionary_page_offset))) for c in columns
        ]
        sizes = [column.total_compressed_size for column in columns]
        first, last = min(starts), max(a + n for a, n in zip(starts, sizes, strict=True))
        if not self._whole:
            if not len(MAGIC) <= first < last <= self._end:
                raise self.error(f"row group {group} lies outside of the file")
            self._fetch(first, last)
        try:
            file = pq.ParquetFile(
                pa.BufferReader(pa.py_buffer(self._data)),
                metadata=self._metadata,
                page_checksum_verification=True,
            )
            rows: list[dict[str, Any]] = file.read_row_group(group).to_pylist()
        except (pa.ArrowException, OSError) as error:
            raise self.error(f"row group {group} cannot be read: {_line(error)}") from None
        if len(rows) != meta.num_rows:
            raise self.error(f"row group {group}: {len(rows)} rows, expected {meta.num_rows}")
        return rows


def _line(error: Exception) -> str:
    return str(error).partition("\n")[0]
