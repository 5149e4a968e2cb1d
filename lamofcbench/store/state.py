"""What a store holds right now: finished, with a manifest, or unfinished, with its records."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from lamofcbench.atomic import sha256_bytes
from lamofcbench.errors import ArchiveNotFoundError, IntegrityError
from lamofcbench.manifest import (
    MANIFEST_SHA256,
    Draft,
    FileEntry,
    Manifest,
    ShardEntry,
    load_manifest,
    mend,
)
from lamofcbench.store.lengths import decode_lengths, lengths_path
from lamofcbench.store.part import Part, load_part, unfinished_download
from lamofcbench.store.tables import length_column, load_table, table_path
from lamofcbench.store.work import load_draft, load_records

__all__ = ["StoreState", "check_lengths", "load_state", "small_files"]


@dataclass(frozen=True)
class StoreState:
    """A store as found on disk.

    Attributes:
        store: its folder.
        draft: what was asked for; the whole manifest if the store is finished.
        shards: entries of the shards that are there, by number.
        files: size and hash of every file that must be there.
        rows: rows of the sample tables, by store row.
        part: which keys and shards are here if it is a part of a store; None for all of them.
    """

    store: Path
    draft: Draft
    shards: dict[int, ShardEntry]
    files: dict[str, FileEntry]
    rows: dict[int, dict[str, Any]] = field(repr=False)
    part: Part | None = None

    @property
    def complete(self) -> bool:
        """Whether the store is finished, and all of it is here."""
        return isinstance(self.draft, Manifest) and self.part is None

    def has(self, path: str, shard: int) -> bool:
        """Whether an array is here in a shard, as far as a download was meant to bring it."""
        return self.part is None or self.part.has(path, shard)

    def readable(self, row: int) -> bool:
        """Whether a sample is recorded and was not skipped."""
        entry = self.shards.get(row // self.draft.samples_per_shard)
        return entry is not None and row not in entry.skipped

    def sample_id(self, row: int) -> str:
        """A sample's id."""
        shard, slot = divmod(row, self.draft.samples_per_shard)
        return self.shards[shard].samples[slot]

    def lengths(self, row: int) -> dict[str, int]:
        """Length per ragged axis of one sample; 0 if it was skipped."""
        shard, slot = divmod(row, self.draft.samples_per_shard)
        return {axis: values[slot] for axis, values in self.shards[shard].lengths.items()}


def load_state(store: Path) -> StoreState:
    """Read a store's manifest, or its records, and check that they agree with what lies beside.

    All files are looked at for presence and size, all but the shards for their hash as well; the
    shards are checked when they are read.

    Raises:
        ArchiveNotFoundError: there is no store.
        IntegrityError: a file is missing, altered or contradicts another.
        FormatVersionError: a newer version of this package wrote it.
    """
    state = _load(store)
    for path, entry in state.files.items():
        try:
            found = (store / path).stat().st_size
        except FileNotFoundError:
            raise IntegrityError(f"{store / path}: missing. {mend(store)}") from None
        if found != entry.bytes:
            raise IntegrityError(
                f"{store / path}: {found} bytes, expected {entry.bytes}. {mend(store)}"
            )
    if isinstance(state.draft, Manifest):
        contents = small_files(store, state.draft)
        state.rows.update(_table_rows(store, state.draft, contents))
        for path, fault in check_lengths(state, contents):
            raise IntegrityError(f"{store / path}: {fault}. {mend(store)}")
    if state.part is not None:
        here = {shard: state.shards[shard] for shard in state.part.shards}
        return replace(state, shards=here)
    return state


def _load(store: Path) -> StoreState:
    for _ in range(2):
        try:
            manifest = load_manifest(store)
            shards = {shard.index: shard for shard in manifest.shards}
            stated = (store / MANIFEST_SHA256).read_bytes()[:64].decode()
            part = load_part(store, manifest, stated)
            files = part.files(manifest) if part else manifest.files
            return StoreState(store, manifest, shards, files, {}, part)
        except FileNotFoundError:
            pass
        try:
            draft, records = load_draft(store), load_records(store)
        except FileNotFoundError:
            # Either there is nothing, or the store was finished between the two looks.
            continue
        return StoreState(
            store,
            draft,
            {index: record.entry for index, record in records.items()},
            {path: entry for record in records.values() for path, entry in record.files.items()},
            {row["index"]: row for record in records.values() for row in record.rows},
        )
    if command := unfinished_download(store):
        raise IntegrityError(f"{store}: its download is not finished. To go on: {command}")
    if (store / "features.zarr").exists():
        raise IntegrityError(f"{store / 'manifest.json'}: missing. {mend(store)}")
    raise ArchiveNotFoundError(f"{store}: no store here")


def small_files(store: Path, manifest: Manifest) -> dict[str, bytes]:
    """Contents of every listed file that is not a shard, each checked against its hash.

    Raises:
        IntegrityError: one is missing or altered.
    """
    shards = {
        layout.shard_path(k)
        for layout in manifest.layouts.values()
        for k in range(manifest.shard_count)
    }
    contents = {}
    for path, entry in manifest.files.items():
        if path in shards:
            continue
        try:
            data = (store / path).read_bytes()
        except FileNotFoundError:
            raise IntegrityError(f"{store / path}: missing. {mend(store)}") from None
        if (found := sha256_bytes(data)) != entry.sha256:
            raise IntegrityError(
                f"{store / path}: sha256 {found}, expected {entry.sha256}. {mend(store)}"
            )
        contents[path] = data
    return contents


def _table_rows(
    store: Path, manifest: Manifest, contents: dict[str, bytes]
) -> dict[int, dict[str, Any]]:
    rows = {}
    for split in manifest.splits:
        path = table_path(split)
        if path not in contents:
            raise IntegrityError(f"{store / path}: not in the manifest. {mend(store)}")
        table = load_table(contents[path])
        if [row["index"] for row in table] != list(manifest.split_rows(split)):
            raise IntegrityError(
                f"{store / path}: its rows are not those of the manifest. {mend(store)}"
            )
        rows.update({row["index"]: row for row in table})
    return rows


def check_lengths(state: StoreState, contents: dict[str, bytes]) -> list[tuple[str, str]]:
    """Compare lengths, ids and skips: manifest against tables against length arrays.

    Returns:
        (path, what is wrong) for each disagreement, in the order found.
    """
    faults: list[tuple[str, str]] = []
    for axis in state.draft.declaration.ragged:
        stated = [n for _, shard in sorted(state.shards.items()) for n in shard.lengths[axis]]
        path = lengths_path(axis)
        try:
            found = decode_lengths(contents[path])
        except KeyError:
            faults.append((path, "not in the manifest"))
            continue
        except ValueError as error:
            faults.append((path, str(error)))
            continue
        if found != stated:
            row = next((i for i, pair in enumerate(zip(found, stated)) if pair[0] != pair[1]), -1)  # noqa: B905
            faults.append((path, f"differs from the manifest, first at sample {row}"))
        for row, length in enumerate(stated):
            if (in_table := state.rows[row][length_column(axis)] or 0) != length:
                where = _split_of(state.draft, row)
                faults.append(
                    (table_path(where), f"sample {row}: {axis} {in_table}, manifest {length}")
                )
    for shard in state.shards.values():
        for row, name in zip(state.draft.shard_rows(shard.index), shard.samples, strict=True):
            skipped = "skipped" if row in shard.skipped else "ok"
            if (state.rows[row]["id"], state.rows[row]["status"]) != (name, skipped):
                where = _split_of(state.draft, row)
                faults.append((table_path(where), f"sample {row}: not {name!r}, {skipped}"))
    return faults


def _split_of(draft: Draft, row: int) -> str:
    return next(split for split in draft.splits if row in draft.split_rows(split))
