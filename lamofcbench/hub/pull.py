"""Fetching a store or a part of it: planned first, then resumed until every hash is right."""

import contextlib
import os
import shutil
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from lamofcbench.atomic import compact_json, fsync_folder, sha256_bytes, sha256_file, write_bytes
from lamofcbench.errors import HubError, LockedError, RequestMismatchError
from lamofcbench.hub.download import download
from lamofcbench.hub.remote import RemoteStore
from lamofcbench.manifest import MANIFEST, MANIFEST_SHA256, PULLED, FileEntry
from lamofcbench.store.lock import RangeLock
from lamofcbench.store.part import PULLING, Part, load_part, write_part

__all__ = ["PullPlan", "plan_pull", "pull"]

CONNECTIONS = 8


@dataclass(frozen=True)
class PullPlan:
    """What a pull will do.

    Attributes:
        remote: where from.
        store: where to.
        part: what will be there afterwards; None for the whole store.
        files: what has to be fetched, by path, besides the manifest.
        present: files of ``part`` that are there already.
        bytes: that have to be fetched, less what an interrupted pull has left.
    """

    remote: RemoteStore
    store: Path
    part: Part | None
    files: dict[str, FileEntry]
    present: int
    bytes: int


def _temporary(store: Path, entry: FileEntry) -> Path:
    return store / PULLING / entry.sha256


def _local(remote: RemoteStore, store: Path) -> tuple[bool, Part | None]:
    """Whether a store is there, and which part of it; refuses what is no download of this one."""
    path = store / MANIFEST
    if not path.is_file():
        if store.is_dir() and not (store / PULLING).is_dir() and any(store.iterdir()):
            raise RequestMismatchError(
                f"{store}: not a download, and not finished. Choose another --archive, or remove "
                f"it first: rm -r {store}"
            )
        return False, None
    if (found := sha256_bytes(path.read_bytes())) != remote.sha256:
        raise RequestMismatchError(
            f"{store}: holds another store than {remote.repo} at {remote.revision} (manifest "
            f"{found[:12]}, there {remote.sha256[:12]}). Name the --revision that it came from, "
            f"choose another --archive, or start over: rm -r {store}"
        )
    return True, load_part(store, remote.manifest, found)


def plan_pull(
    remote: RemoteStore,
    archive: Path,
    shards: Iterable[int] | None = None,
    keys: Iterable[str] | None = None,
) -> PullPlan:
    """Find out what has to be fetched.

    Args:
        remote: the store.
        archive: the folder to pull into; what it holds of the store is extended.
        shards: numbers; all by default.
        keys: all by default.

    Raises:
        RequestMismatchError: the archive holds another store of that name.
        IntegrityError: what it holds is damaged.
    """
    manifest, store = remote.manifest, archive / remote.folder
    there, had = _local(remote, store)
    if there and had is None:
        return PullPlan(remote, store, None, {}, len(manifest.files), 0)
    part = Part.of(
        remote.sha256,
        range(manifest.shard_count) if shards is None else shards,
        manifest.keys if keys is None else keys,
        remote.repo,
        remote.commit,
    )
    trusted = had.files(manifest) if had is not None else {}
    part = part if had is None else had.joined(part)
    wanted = part.files(manifest)
    missing = {
        path: entry
        for path, entry in wanted.items()
        if not _is_there(store / path, entry, path in trusted)
    }
    left = 0
    for entry in missing.values():
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            left += min(_temporary(store, entry).stat().st_size, entry.bytes)
    return PullPlan(
        remote,
        store,
        None if part.whole(manifest) else part,
        missing,
        len(wanted) - len(missing),
        sum(entry.bytes for entry in missing.values()) - left,
    )


def _is_there(path: Path, entry: FileEntry, trusted: bool) -> bool:
    """Whether a file is in place; what a finished pull brought was hashed then."""
    try:
        same = path.stat().st_size == entry.bytes
    except (FileNotFoundError, NotADirectoryError):
        return False
    return same and (trusted or sha256_file(path) == entry.sha256)


def _options(plan: PullPlan) -> list[str]:
    """The options that ask for the same again."""
    if plan.part is None:
        return [f"--revision {plan.remote.commit}"]
    shards = ",".join(str(shard) for shard in plan.part.shards)
    keys = ",".join(plan.part.keys)
    return [f"--revision {plan.remote.commit}", f"--shards {shards}", f"--tensors {keys}"]


def pull(plan: PullPlan, progress: Callable[[int], object] = lambda count: None) -> None:
    """Do what was planned; the manifest comes last.

    Args:
        plan: from `plan_pull`.
        progress: called with the bytes of each piece that arrives, from several threads.

    Raises:
        IntegrityError: a file keeps arriving damaged, or the revision lacks it.
        HubError: the Hub cannot be reached, or there is no room; running it again goes on.
        LockedError: another process pulls into the same store.
    """
    remote, store = plan.remote, plan.store
    if _is_done(plan):
        shutil.rmtree(store / PULLING, ignore_errors=True)
        return
    try:
        store.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise HubError(f"{store}: {error.strerror}. Choose another --archive") from None
    if (free := shutil.disk_usage(store).free) < plan.bytes:
        raise HubError(f"{store}: {plan.bytes} bytes to fetch, and room for {free}. Free some")
    try:
        lock = RangeLock(store / PULLING / "lock", 0, 1)
    except LockedError:
        raise LockedError(f"{store}: another process is pulling into it. Wait for it") from None
    try:
        note = {"repo": remote.repo, "options": _options(plan)}
        write_bytes(store / PULLING / "what.json", compact_json(note))
        _fetch(plan, progress)
        if not (store / MANIFEST).exists():
            line = f"{remote.sha256}  {MANIFEST}\n"
            write_bytes(store / MANIFEST_SHA256, line.encode())
        if plan.part is not None:
            write_part(store, plan.part)
        else:
            (store / PULLED).unlink(missing_ok=True)
        if not (store / MANIFEST).exists():
            write_bytes(store / MANIFEST, remote.data)
        shutil.rmtree(store / PULLING)
    finally:
        lock.release()


def _is_done(plan: PullPlan) -> bool:
    if plan.files or not (plan.store / MANIFEST).exists():
        return False
    if plan.part is None:
        return not (plan.store / PULLED).exists()
    had = load_part(plan.store, plan.remote.manifest, plan.remote.sha256)
    return had is not None and had.covers(plan.part)


def _fetch(plan: PullPlan, progress: Callable[[int], object]) -> None:
    remote, store = plan.remote, plan.store
    guard = threading.Lock()

    def counted(count: int) -> None:
        with guard:
            progress(count)

    def place(temporary: Path, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.replace(path)

    # Files of the same contents share a temporary one, so they are fetched once.
    places: dict[str, list[str]] = {}
    for path, entry in plan.files.items():
        places.setdefault(entry.sha256, []).append(path)

    def bring(paths: Sequence[str]) -> None:
        entry = plan.files[paths[0]]
        temporary = _temporary(store, entry)
        name = f"{remote.folder}/{paths[0]}"
        download(remote.repo, remote.commit, name, entry, temporary, counted)
        for path in paths[1:]:
            copy = temporary.with_name(f"{temporary.name}.copy")
            shutil.copyfile(temporary, copy)
            with copy.open("rb+") as file:
                os.fsync(file.fileno())
            place(copy, store / path)
            counted(entry.bytes)
        place(temporary, store / paths[0])

    with ThreadPoolExecutor(CONNECTIONS) as pool:
        jobs = [pool.submit(bring, paths) for paths in places.values()]
        try:
            for job in jobs:
                job.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    # Once each, rather than with every file: nothing counts as there before the manifest is.
    folders = {parent for path in plan.files for parent in (store / path).parents}
    for folder in sorted(folder for folder in folders if folder.is_relative_to(store)):
        fsync_folder(folder)
