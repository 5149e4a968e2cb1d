"""An unfinished store's journal: what was asked for, and a record for every finished shard."""

import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from lamofcbench.atomic import canonical_json, compact_json, sha256_bytes, write_bytes
from lamofcbench.errors import IntegrityError
from lamofcbench.manifest import Draft, FileEntry, ShardEntry, mend

__all__ = [
    "LOCK",
    "WORK",
    "ShardRecord",
    "load_draft",
    "load_records",
    "record_path",
    "write_draft",
    "write_record",
]

WORK = ".work"
LOCK = "lock"
DRAFT = "request.json"


class ShardRecord(BaseModel):
    """The commit of one shard: once it is there, the shard's files are whole.

    Attributes:
        entry: ids, lengths and skipped rows, as in the manifest.
        rows: the rows of the sample tables.
        files: the shard's files, by path relative to the store.
        raw_bytes: of the features' values before compression.
        elements: number of feature values.
        prefix: leading token ids that all its samples share; None if it has no sample with any.
        constants: a hash per key whose tensor is the same in all its samples; None without samples.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    entry: ShardEntry
    rows: list[dict[str, Any]]
    files: dict[str, FileEntry]
    raw_bytes: int
    elements: int
    prefix: list[int] | None
    constants: dict[str, str] | None


def record_path(store: Path, shard: int) -> Path:
    """Where a shard's record is kept."""
    return store / WORK / f"shard-{shard}.json"


def _write(path: Path, model: BaseModel) -> None:
    body = model.model_dump(mode="json")
    data = {"body": body, "sha256": sha256_bytes(canonical_json(body))}
    write_bytes(path, compact_json(data))


def _load(path: Path) -> Any:
    try:
        raw = json.loads(path.read_bytes())
        body, stated = raw["body"], raw["sha256"]
    except (ValueError, KeyError, TypeError):
        raise IntegrityError(f"{path}: not a whole record. {mend(path.parent.parent)}") from None
    if sha256_bytes(canonical_json(body)) != stated:
        raise IntegrityError(f"{path}: altered since it was written. {mend(path.parent.parent)}")
    return body


def write_draft(store: Path, draft: Draft) -> None:
    """Begin a store: note what was asked for."""
    _write(store / WORK / DRAFT, draft)


def load_draft(store: Path) -> Draft:
    """Read what an unfinished store was asked for.

    Raises:
        FileNotFoundError: there is no unfinished store.
        IntegrityError: the note is damaged.
    """
    path = store / WORK / DRAFT
    body = _load(path)
    try:
        return Draft.model_validate(body)
    except ValidationError as error:
        fault = error.errors()[0]
        raise IntegrityError(f"{path}: {fault['loc']}: {fault['msg']}. {mend(store)}") from None


def write_record(store: Path, record: ShardRecord) -> None:
    """Commit a shard whose files are all in place."""
    _write(record_path(store, record.entry.index), record)


def load_records(store: Path, *, strict: bool = True) -> dict[int, ShardRecord]:
    """Read the records of all finished shards of an unfinished store, by shard number.

    Args:
        store: the store's folder.
        strict: whether a damaged record is an error; otherwise it is passed over.

    Raises:
        IntegrityError: a record is damaged.
    """
    records = {}
    for path in (store / WORK).glob("shard-*.json"):
        try:
            record = _load_record(store, path)
        except IntegrityError:
            if strict:
                raise
            continue
        records[record.entry.index] = record
    return dict(sorted(records.items()))


def _load_record(store: Path, path: Path) -> ShardRecord:
    try:
        record = ShardRecord.model_validate(_load(path))
    except ValidationError as error:
        fault = error.errors()[0]
        raise IntegrityError(f"{path}: {fault['loc']}: {fault['msg']}. {mend(store)}") from None
    if path != record_path(store, record.entry.index):
        raise IntegrityError(f"{path}: holds shard {record.entry.index}. {mend(store)}")
    return record
