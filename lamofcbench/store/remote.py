"""A published store, read in ranges: the manifest first, of the rest no more than is used."""

import contextlib
import itertools
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
from lamofcbench.store.footer import single_group_footers
from lamofcbench.store.lanes import Once
from lamofcbench.store.source import ByteSource, FileBytes, checked
from lamofcbench.store.state import StoreState
from lamofcbench.store.tables import length_column, table_path

__all__ = ["RemoteSource", "load_published"]

# A table of no more bytes comes whole: that costs less than asking three times.
SMALL_TABLE = 8192
MAX_TABLE = 1 << 30
# A footer of no more bytes comes whole; of a longer one, its head, which holds the schema, and a
# window of so many row groups' entries.
SMALL_FOOTER = 8192
HEAD = 1536
WINDOW = 4
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
        shard = row // manifest.samples_per_shard
        self.update(self._groups.get((split, shard), lambda: self._load(split, table, shard)))
        return self[row]

    def _open(self, split: str) -> "_Table":
        path = table_path(split)
        name = self._source.store / path
        if (entry := self._manifest.files.get(path)) is None:
            raise IntegrityError(f"{name}: not in the manifest. {self._source.remedy}")
        file = self._source.open(path, entry)
        rows, step = self._manifest.split_rows(split), self._manifest.samples_per_shard
        cuts = [rows.start, *range((rows.start // step + 1) * step, rows.stop, step), rows.stop]
        groups = [range(a, b) for a, b in itertools.pairwise(cuts)]
        return checked(file, lambda: _Table(name, file, entry, groups, self._source.remedy))

    def _load(self, split: str, table: "_Table", shard: int) -> dict[int, dict[str, Any]]:
        def load(whole: bool) -> dict[int, dict[str, Any]]:
            first = self._manifest.split_rows(split).start // self._manifest.samples_per_shard
            rows = table.load(shard - first, whole)
            for row, values in rows.items():
                if fault := self._fault(row, values):
                    raise table.error(f"sample {row}: {fault}")
            return rows

        with contextlib.suppress(IntegrityError):
            return load(False)
        # What was found by guessing may be wrong where the whole footer is right.
        return checked(table.file, lambda: load(True))

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
    """One Parquet file, of which only what leads to the wanted rows is fetched.

    Args:
        name: of the file, for messages.
        file: its bytes.
        entry: size and hash that the manifest states.
        groups: store rows of its row groups, as written, one for each shard.
        remedy: the last sentence of messages.
    """

    def __init__(
        self, name: Path, file: FileBytes, entry: FileEntry, groups: list[range], remedy: str
    ) -> None:
        self.file = file
        self._name = name
        self._groups = groups
        self._remedy = remedy
        size = entry.bytes
        if not 12 <= size <= MAX_TABLE:
            raise self.error(f"{size} bytes cannot be a table")
        # As large as the file, but no memory is taken where nothing is written.
        self._data = mmap.mmap(-1, size)
        self._known = Once(1)
        self._guesses = 0
        small = size <= SMALL_TABLE
        self._fetch((0 if small else size - 8, size))
        if small and (found := sha256_bytes(self._data[:])) != entry.sha256:
            raise self.error(f"sha256 {found}, expected {entry.sha256}")
        self._end = size - 8
        self._start = self._end - int.from_bytes(self._data[-8:-4], "little")
        if self._data[-4:] != MAGIC or self._start < len(MAGIC):
            raise self.error("does not end as a Parquet file")
        self._here = range(0, size) if small else range(0)

    def error(self, what: str) -> IntegrityError:
        """An error that names the file."""
        return IntegrityError(f"{self._name}: {what}. {self._remedy}")

    def _fetch(self, *ranges: tuple[int, int]) -> None:
        for (start, stop), data in zip(ranges, self.file.read(*ranges), strict=True):
            self._data[start:stop] = bytes(data)

    def _whole_footer(self) -> Any:
        if not self._here:
            self._fetch((self._start, self._end))
        metadata = self._parse(self._data[self._start : self._end])
        if metadata.num_rows != (count := sum(map(len, self._groups))):
            raise self.error(f"{metadata.num_rows} rows, expected {count}")
        return metadata

    def _parse(self, footer: bytes) -> Any:
        alone = MAGIC + footer + len(footer).to_bytes(4, "little") + MAGIC
        try:
            return pq.read_metadata(pa.BufferReader(alone))
        except (pa.ArrowException, OSError) as error:
            raise self.error(f"its footer cannot be read: {_line(error)}") from None

    def _guess(self, group: int) -> dict[int, dict[str, Any]] | None:
        """Rows of one row group, if its entry in the footer is near where it should be."""
        size = self._end - self._start
        each = size // len(self._groups)
        # Where many are wanted, the whole footer costs less than all the windows.
        if size <= SMALL_FOOTER or 2 * self._guesses * WINDOW > len(self._groups):
            return None
        self._guesses += 1
        middle = self._start + each * group + each // 2
        first = max(self._start, middle - each * WINDOW // 2)
        head = self._start, self._start + HEAD
        window = first, min(first + each * WINDOW, self._end)
        self._fetch(head, window)
        entries = single_group_footers(self._data[slice(*head)], self._data[slice(*window)])
        if not entries:
            return None
        away = [abs(first + at + each // 2 - middle) for at, _ in entries]
        chosen = away.index(min(away))
        for _ in range(2):
            metadata = self._parse(entries[chosen][1])
            rows = self._rows(metadata, 0)
            places = [row.get("index") for row in rows]
            if places == list(self._groups[group]):
                return dict(zip(self._groups[group], rows, strict=True))
            # The rows say which group it was, and so how far off the wanted one is.
            found = next(
                (g for g, held in enumerate(self._groups) if places[:1] == [held.start]), None
            )
            chosen += 0 if found is None else group - found
            if found in (None, group) or not 0 <= chosen < len(entries):
                return None
        return None

    def load(self, group: int, whole: bool) -> dict[int, dict[str, Any]]:
        """Rows of one row group by store row, checked by the checksums of its pages.

        Args:
            group: its number, as written.
            whole: whether to take the whole footer, rather than look where the entry should be.
        """
        if not whole and not self._here and (guessed := self._guess(group)) is not None:
            return guessed
        wanted = self._groups[group]
        metadata = self._known.get("footer", lambda: checked(self.file, self._whole_footer))
        first = self._groups[0].start
        rows: dict[int, dict[str, Any]] = {}
        for number in range(metadata.num_row_groups):
            last = first + metadata.row_group(number).num_rows
            if first < wanted.stop and wanted.start < last:
                rows.update(zip(range(first, last), self._rows(metadata, number), strict=False))
            first = last
        if any(row not in rows for row in wanted):
            raise self.error(f"lacks rows of shard {group}")
        return {row: rows[row] for row in wanted}

    def _rows(self, metadata: Any, number: int) -> list[dict[str, Any]]:
        meta = metadata.row_group(number)
        columns = [meta.column(i) for i in range(meta.num_columns)]
        starts = [
            min(filter(None, (c.data_page_offset, c.dictionary_page_offset)), default=0)
            for c in columns
        ]
        sizes = [column.total_compressed_size for column in columns]
        first, last = min(starts), max(a + n for a, n in zip(starts, sizes, strict=True))
        if not len(MAGIC) <= first < last <= self._start:
            raise self.error(f"row group {number} lies outside of the file")
        if not self._here:
            self._fetch((first, last))
        try:
            file = pq.ParquetFile(
                pa.BufferReader(pa.py_buffer(self._data)),
                metadata=metadata,
                page_checksum_verification=True,
            )
            rows: list[dict[str, Any]] = file.read_row_group(number, use_threads=False).to_pylist()
        except (pa.ArrowException, OSError) as error:
            raise self.error(f"row group {number} cannot be read: {_line(error)}") from None
        return rows


def _line(error: Exception) -> str:
    return str(error).partition("\n")[0]
