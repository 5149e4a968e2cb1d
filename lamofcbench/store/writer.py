"""Writing a store, shard by shard, so that it can be killed at any moment and taken up again."""

import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from lamofcbench.atomic import TEMPORARY, fsync_folder, publish, sha256_bytes, write_bytes
from lamofcbench.bits import to_storage
from lamofcbench.errors import LockedError, RequestMismatchError, SampleError
from lamofcbench.layout import ArrayLayout
from lamofcbench.manifest import (
    PULLED,
    Draft,
    FileEntry,
    Manifest,
    ShardEntry,
    Totals,
    content_hash,
    differences,
    load_manifest,
    write_manifest,
)
from lamofcbench.store.common import CommonParts, common_constants, common_prefix
from lamofcbench.store.lengths import encode_lengths, lengths_path
from lamofcbench.store.lock import RangeLock
from lamofcbench.store.part import PULLING
from lamofcbench.store.shard import ShardFileWriter, shard_header
from lamofcbench.store.tables import length_column, reference_column, table_path, write_table
from lamofcbench.store.work import (
    LOCK,
    WORK,
    ShardRecord,
    load_draft,
    load_records,
    record_path,
    write_draft,
    write_record,
)
from lamofcbench.store.zarr_meta import zarr_documents

__all__ = ["Sample", "StoreWriter"]


@dataclass(frozen=True)
class Sample:
    """One sample as a writer takes it.

    Attributes:
        id: unique in the store.
        arrays: a tensor per declared array (``<key>``, ``context/<name>``, ``reference/<name>``),
            torch or numpy, in the model's own layout, of its actual length.
        reference: a value per declared reference column.
        summary: one line about the input.
        source_id: the record of the source that it came from.
        source_sha256: of the source's bytes.
        token_ids: of the prompt, where there is one.
        skipped: why there are no arrays; None for a sample that is there.
    """

    id: str
    arrays: Mapping[str, Any] = field(repr=False)
    reference: Mapping[str, Any]
    summary: str
    source_id: str
    source_sha256: str
    token_ids: Sequence[int] | None = None
    skipped: str | None = None


class StoreWriter:
    """Writes one store.

    Every finished shard is committed by a record; files without one are written again. Once all
    shards are recorded, `finalise` writes what makes it a store and removes the journal.
    """

    def __init__(self, store: Path, draft: Draft, shards: range | None = None) -> None:
        """Take up a store, or begin it.

        Args:
            store: its folder, ``<archive>/<config>/<profile>``.
            draft: what is asked for.
            shards: which shards this writer may write; all by default.

        Raises:
            RequestMismatchError: the store was asked for differently.
            LockedError: another process writes some of these shards.
            IntegrityError: its journal is damaged.
        """
        if (store / PULLED).exists() or (store / PULLING).exists():
            raise RequestMismatchError(
                f"{store}: a part of a downloaded store, which nothing can be written to. "
                "Choose another ARCHIVE=, or pull the rest with lamofcbench pull"
            )
        self.store = store
        self.draft = draft
        self.shards = shards if shards is not None else range(draft.shard_count)
        self._layouts = draft.layouts
        self._lock: RangeLock | None = None
        self.manifest = self._finished()
        if self.manifest is not None:
            shutil.rmtree(store / WORK, ignore_errors=True)
            return
        self._lock = RangeLock(store / WORK / LOCK, self.shards.start, self.shards.stop)
        try:
            # The last holder of the lock may just have finished the store.
            self.manifest = self._finished()
            if self.manifest is None:
                self._begin()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        """Return the writer, which holds its lock already."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Release the lock; never finish anything."""
        self.close()

    def close(self) -> None:
        """Release the lock."""
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def _finished(self) -> Manifest | None:
        try:
            manifest = load_manifest(self.store)
        except FileNotFoundError:
            return None
        self._compare(manifest)
        return manifest

    def _begin(self) -> None:
        try:
            found = load_draft(self.store)
        except FileNotFoundError:
            write_draft(self.store, self.draft)
            return
        self._compare(found)
        self.draft = found

    def _compare(self, found: Draft) -> None:
        if found.request_sha256 == self.draft.request_sha256:
            return
        changed = differences(found, self.draft)
        raise RequestMismatchError(
            f"{self.store} was asked for differently: {'; '.join(changed[:3]) or 'its request'}. "
            f"Ask as before, choose another ARCHIVE=, or start over: rm -r {self.store}"
        )

    def recorded(self) -> dict[int, ShardRecord]:
        """Records of the shards, of any writer, whose files are all in place.

        A shard with a damaged record counts as unfinished: writing it again mends it.
        """
        return {
            index: record
            for index, record in load_records(self.store, strict=False).items()
            if all(_has_size(self.store / path, entry) for path, entry in record.files.items())
        }

    def pending(self) -> list[int]:
        """Shards of this writer that are not finished yet."""
        if self.manifest is not None:
            return []
        done = self.recorded()
        return [shard for shard in self.shards if shard not in done]

    def write_shard(
        self,
        shard: int,
        samples: Iterable[Sample],
        progress: Callable[[Sample], None] | None = None,
    ) -> ShardRecord:
        """Write one shard and commit it.

        Args:
            shard: its number.
            samples: its samples, in order; taken one at a time.
            progress: called after each sample.

        Raises:
            SampleError: a sample breaks the declaration; nothing of the shard is kept.
            OSError: the disk is full or fails; nothing of the shard is kept.
        """
        temporary = self.store / WORK / f"tmp-{shard}"
        shutil.rmtree(temporary, ignore_errors=True)
        record_path(self.store, shard).unlink(missing_ok=True)
        temporary.mkdir(parents=True)
        draft = self.draft
        writers = {}
        try:
            for number, (path, layout) in enumerate(self._layouts.items()):
                header = shard_header(
                    draft.config, draft.profile, path, shard, draft.request_sha256
                )
                writers[path] = ShardFileWriter(temporary / f"{number}.part", layout, header)
            rows, elements, raw_bytes, common = [], 0, 0, CommonParts()
            for row, sample in zip(draft.shard_rows(shard), samples, strict=True):
                stored = self._stored(sample)
                for path, writer in writers.items():
                    writer.append(stored.get(path))
                rows.append(self._row(row, sample, stored))
                features = {path: array for path, array in stored.items() if path in draft.keys}
                elements += sum(array.size for array in features.values())
                raw_bytes += sum(array.nbytes for array in features.values())
                if sample.skipped is None:
                    common.add(features, sample.token_ids)
                if progress is not None:
                    progress(sample)
            entries = {path: writer.finish() for path, writer in writers.items()}
            fsync_folder(temporary)
            for number, layout in enumerate(self._layouts.values()):
                publish(temporary / f"{number}.part", self.store / layout.shard_path(shard))
        finally:
            for writer in writers.values():
                writer.abort()
            shutil.rmtree(temporary, ignore_errors=True)
        record = ShardRecord(
            entry=ShardEntry(
                index=shard,
                samples=[row["id"] for row in rows],
                lengths={
                    axis: [row[length_column(axis)] or 0 for row in rows]
                    for axis in draft.declaration.ragged
                },
                skipped=[row["index"] for row in rows if row["status"] == "skipped"],
            ),
            rows=rows,
            files={
                layout.shard_path(shard): entries[path] for path, layout in self._layouts.items()
            },
            raw_bytes=raw_bytes,
            elements=elements,
            prefix=common.prefix,
            constants=common.constants,
        )
        write_record(self.store, record)
        return record

    def check(self, sample: Sample) -> None:
        """Raise `SampleError` if a sample breaks the declaration, without writing anything."""
        self._stored(sample)

    def _stored(self, sample: Sample) -> dict[str, Any]:
        """Arrays of a sample in stored order and dtype, checked against the declaration."""
        if sample.skipped is not None:
            return {}
        _same_names(sample.id, "arrays", sample.arrays, self._layouts)
        _same_names(sample.id, "reference", sample.reference, self.draft.declaration.reference)
        lengths: dict[str, int] = {}
        stored = {}
        for path, layout in self._layouts.items():
            name = f"sample {sample.id}: {path}"
            array = to_storage(sample.arrays[path], layout.captured, layout.logical, name)
            stored[path] = _checked(array, layout, lengths, name)
        return stored

    def _row(self, row: int, sample: Sample, stored: Mapping[str, Any]) -> dict[str, Any]:
        lengths = {
            layout.ragged_axis: stored[path].shape[layout.ragged_index or 0]
            for path, layout in self._layouts.items()
            if path in stored and layout.ragged_axis is not None
        }
        return {
            "id": sample.id,
            "index": row,
            "status": "ok" if sample.skipped is None else "skipped",
            "reason": sample.skipped,
            **{length_column(axis): lengths.get(axis) for axis in self.draft.declaration.ragged},
            **{reference_column(name): value for name, value in sample.reference.items()},
            "token_ids": None if sample.token_ids is None else list(sample.token_ids),
            "input": sample.summary,
            "source_id": sample.source_id,
            "source_sha256": sample.source_sha256,
        }

    def finalise(self) -> Manifest | None:
        """Make a store of it, if every shard is recorded and no other process writes any.

        Returns:
            The manifest, or None if other writers are not done yet.
        """
        if self.manifest is not None:
            return self.manifest
        self.close()
        count = self.draft.shard_count
        records = self.recorded()
        if len(records) < count:
            return None
        try:
            lock = RangeLock(self.store / WORK / LOCK, 0, count)
        except LockedError:
            return None
        try:
            # Another writer may have finished it while this one waited for nothing.
            self.manifest = self._finished()
            if self.manifest is None:
                self._finalise(records)
                self.manifest = load_manifest(self.store)
            shutil.rmtree(self.store / WORK)
        finally:
            lock.release()
        return self.manifest

    def _finalise(self, records: dict[int, ShardRecord]) -> None:
        draft, store = self.draft, self.store
        for leftover in store.rglob(f".*{TEMPORARY}"):
            leftover.unlink()
        shards = [record.entry for record in records.values()]
        ids = [name for shard in shards for name in shard.samples]
        if len(set(ids)) != len(ids):
            twice = next(name for name in ids if ids.count(name) > 1)
            raise SampleError(f"{store}: two samples have the id {twice!r}")
        documents = zarr_documents(self._layouts, list(draft.declaration.ragged), draft.samples)
        for axis in draft.declaration.ragged:
            values = [length for shard in shards for length in shard.lengths[axis]]
            documents[lengths_path(axis)] = encode_lengths(values)
        files = {path: entry for record in records.values() for path, entry in record.files.items()}
        for path, data in documents.items():
            write_bytes(store / path, data)
            files[path] = FileEntry(bytes=len(data), sha256=sha256_bytes(data))
        for split in draft.splits:
            path, wanted = table_path(split), draft.split_rows(split)
            groups = [
                [row for row in record.rows if row["index"] in wanted]
                for record in records.values()
            ]
            write_table(store / path, draft.declaration, [rows for rows in groups if rows])
            data = (store / path).read_bytes()
            files[path] = FileEntry(bytes=len(data), sha256=sha256_bytes(data))
        write_manifest(
            store,
            Manifest(
                **draft.model_dump(),
                shards=shards,
                files=dict(sorted(files.items())),
                totals=Totals(
                    samples=draft.samples,
                    skipped=sum(len(shard.skipped) for shard in shards),
                    bytes=sum(entry.bytes for entry in files.values()),
                    raw_bytes=sum(record.raw_bytes for record in records.values()),
                    elements=sum(record.elements for record in records.values()),
                ),
                shared_prefix=len(common_prefix(r.prefix for r in records.values()) or []),
                constant_keys=common_constants(r.constants for r in records.values()),
                content_hash=content_hash({path: entry.sha256 for path, entry in files.items()}),
            ),
        )


def _has_size(path: Path, entry: FileEntry) -> bool:
    try:
        return path.stat().st_size == entry.bytes
    except FileNotFoundError:
        return False


def _same_names(
    sample: str, what: str, found: Mapping[str, Any], wanted: Mapping[str, Any]
) -> None:
    if missing := sorted(wanted.keys() - found.keys()):
        raise SampleError(f"sample {sample}: {what}: {', '.join(missing)} missing")
    if extra := sorted(found.keys() - wanted.keys()):
        raise SampleError(f"sample {sample}: {what}: {', '.join(extra)} not declared")


def _checked(array: Any, layout: ArrayLayout, lengths: dict[str, int], name: str) -> Any:
    """Bring an array into stored order and check its shape; notes the ragged axis's length."""
    order = layout.native_order
    if array.ndim != len(order):
        raise SampleError(f"{name}: {array.ndim} axes, declared {len(order)}")
    array = np.transpose(array, np.argsort(order))
    axis = layout.ragged_axis
    if axis is not None and layout.ragged_index is not None:
        length, most = array.shape[layout.ragged_index], layout.shape[1 + layout.ragged_index]
        if not 1 <= length <= most:
            raise SampleError(f"{name}: {length} along {axis}, declared 1 to {most}")
        if lengths.setdefault(axis, length) != length:
            raise SampleError(f"{name}: {length} along {axis}, other arrays have {lengths[axis]}")
    if array.shape != (wanted := layout.stored_shape(lengths)):
        raise SampleError(f"{name}: stored shape {array.shape}, declared {wanted}")
    return array
