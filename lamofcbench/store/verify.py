"""Verifying a store: every file against the manifest, every claim against its repetition."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from lamofcbench.atomic import sha256_file
from lamofcbench.errors import ArchiveNotFoundError, FormatVersionError, IntegrityError
from lamofcbench.manifest import (
    MANIFEST,
    MANIFEST_SHA256,
    PULLED,
    FileEntry,
    Manifest,
    content_hash,
    load_manifest,
)
from lamofcbench.store.part import PULLING, load_part, unfinished_download
from lamofcbench.store.reader import open_shard
from lamofcbench.store.state import StoreState, load_state
from lamofcbench.store.work import WORK, load_draft, load_records

__all__ = ["Finding", "Report", "verify_store"]


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong: the file, relative to the store, and what was expected and found."""

    path: str
    what: str


@dataclass(frozen=True)
class Report:
    """What a verification saw.

    Attributes:
        store: the store's folder.
        findings: what is wrong; empty for an intact, finished store.
        files: files checked.
        bytes: bytes checked.
        absent: what a part lacks of its store, in words; empty for a whole one.
    """

    store: Path
    findings: list[Finding]
    files: int
    bytes: int
    absent: str = ""


def verify_store(store: Path, progress: Callable[[int], object] | None = None) -> Report:
    """Check a whole store, reading every byte of it.

    Args:
        store: its folder.
        progress: called with the bytes of each file that was read.

    Returns:
        A report; findings do not raise.

    Raises:
        ArchiveNotFoundError: there is nothing at that path.
    """
    if not store.is_dir():
        raise ArchiveNotFoundError(f"{store}: no such folder")
    try:
        manifest = load_manifest(store)
    except FileNotFoundError:
        return _verify_unfinished(store, progress)
    except (IntegrityError, FormatVersionError) as error:
        return Report(store, [Finding(MANIFEST, str(error))], 0, 0)
    try:
        stated = (store / MANIFEST_SHA256).read_bytes()[:64].decode()
        part = load_part(store, manifest, stated)
    except IntegrityError as error:
        return Report(store, [Finding(PULLED, str(error))], 0, 0)
    expected = part.files(manifest) if part else manifest.files
    findings, total = _verify_files(store, expected, progress)
    listed = {*manifest.files, MANIFEST, MANIFEST_SHA256, PULLED}
    for path in sorted(p.relative_to(store).as_posix() for p in store.rglob("*") if p.is_file()):
        if path not in listed and not path.startswith((f"{WORK}/", f"{PULLING}/")):
            findings.append(Finding(path, "not listed in the manifest"))
    if not findings:
        findings = _verify_contents(store, manifest)
    return Report(store, findings, len(expected), total, part.absent(manifest) if part else "")


def _verify_files(
    store: Path, files: dict[str, FileEntry], progress: Callable[[int], object] | None
) -> tuple[list[Finding], int]:
    findings, total = [], 0
    for path, entry in sorted(files.items()):
        file = store / path
        if not file.is_file():
            findings.append(Finding(path, "missing"))
            continue
        size = file.stat().st_size
        if size != entry.bytes:
            findings.append(Finding(path, f"{size} bytes, expected {entry.bytes}"))
        elif (found := sha256_file(file)) != entry.sha256:
            findings.append(Finding(path, f"sha256 {found}, expected {entry.sha256}"))
        total += size
        if progress is not None:
            progress(size)
    return findings, total


def _verify_contents(store: Path, manifest: Manifest) -> list[Finding]:
    """With every hash right, check that what was hashed also agrees with itself."""
    stated = content_hash({path: entry.sha256 for path, entry in manifest.files.items()})
    if stated != manifest.content_hash:
        return [Finding(MANIFEST, f"content_hash {manifest.content_hash}, its files give {stated}")]
    try:
        state = load_state(store)
    except IntegrityError as error:
        return [Finding(MANIFEST, str(error))]
    return _verify_shards(state)


def _verify_shards(state: StoreState) -> list[Finding]:
    findings = []
    for path, layout in state.draft.layouts.items():
        for shard in state.shards:
            if not state.has(path, shard):
                continue
            try:
                open_shard(state, path, shard)
            except IntegrityError as error:
                findings.append(Finding(layout.shard_path(shard), str(error)))
    return findings


def _verify_unfinished(store: Path, progress: Callable[[int], object] | None) -> Report:
    try:
        draft, records = load_draft(store), load_records(store)
    except FileNotFoundError:
        command = unfinished_download(store)
        what = f"missing: the download is not finished. To go on: {command}"
        return Report(store, [Finding(MANIFEST, what if command else "missing")], 0, 0)
    except IntegrityError as error:
        return Report(store, [Finding(WORK, str(error))], 0, 0)
    files = {path: entry for record in records.values() for path, entry in record.files.items()}
    findings, total = _verify_files(store, files, progress)
    if not findings:
        findings = _verify_shards(load_state(store))
    absent = [str(shard) for shard in range(draft.shard_count) if shard not in records]
    listed = ", ".join(absent[:8]) + (", …" if len(absent) > 8 else "")
    findings.append(
        Finding(
            MANIFEST,
            f"missing: unfinished, {len(records)} of {draft.shard_count} shards are there; "
            f"{f'missing are shards {listed}' if absent else 'only the closing step is missing'}. "
            f"To finish: make extract SCENARIO={draft.config} PROFILE={draft.profile} "
            f"ARCHIVE={store.parent.parent}",
        )
    )
    return Report(store, findings, len(files), total)
