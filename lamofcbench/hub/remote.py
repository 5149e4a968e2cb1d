"""A published store: its manifest, from one commit, checked before anything else is believed."""

import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from lamofcbench.atomic import sha256_bytes
from lamofcbench.errors import ArchiveNotFoundError, HubError, IntegrityError
from lamofcbench.hub.download import read_small
from lamofcbench.hub.locks import Lock, load_lock
from lamofcbench.manifest import MANIFEST, MANIFEST_SHA256, Manifest, parse_manifest
from lamofcbench.spec import REPO
from lamofcbench.store.part import held_revision

__all__ = ["RemoteStore", "open_remote"]

MANIFEST_LIMIT = 256_000_000
HASH_LIMIT = 1000
TRIES = 3
PROFILES = ("full", "tiny")


@dataclass(frozen=True)
class RemoteStore:
    """One store of one commit.

    Attributes:
        repo: ``org/name``.
        revision: that was asked for.
        commit: that it stands for; every file is taken from it.
        manifest: of the store.
        data: the manifest's own bytes.
    """

    repo: str
    revision: str
    commit: str
    manifest: Manifest
    data: bytes

    @property
    def sha256(self) -> str:
        """Of the manifest."""
        return sha256_bytes(self.data)

    @property
    def folder(self) -> str:
        """Of the store, in the repository."""
        return f"{self.manifest.config}/{self.manifest.profile}"


def open_remote(
    repo: str,
    config: str,
    profile: str | None = None,
    revision: str | None = None,
    archive: Path | None = None,
    locks: Path | None = None,
) -> RemoteStore:
    """Find a store in a repository and read its manifest; nothing is listed.

    Args:
        repo: ``org/name``.
        config: such as ``arc-llm``.
        profile: by default full, else tiny.
        revision: tag, branch or commit; by default the one that a part in ``archive`` came from,
            else the lock file's tag, else ``main``.
        archive: the folder to pull into; a manifest that is there is not fetched again.
        locks: where lock files are; by default ``./manifests``, else what the package ships.

    Raises:
        ArchiveNotFoundError: the revision has no such store, or not a whole one.
        IntegrityError: the manifest does not match its hash or the lock file.
        HubError: no such repository or revision, or the Hub cannot be reached.
    """
    if not REPO.fullmatch(repo):
        raise HubError(f"{repo!r} is no repository. Name one as org/name")
    for name in [profile] if profile is not None else PROFILES:
        lock = load_lock(repo, config, name, locks)
        folder = f"{config}/{name}"
        held = held_revision(archive / folder) if archive is not None else None
        asked = revision or held or (lock.revision if lock else "main")
        local = archive / folder / MANIFEST if archive is not None else None
        data = local.read_bytes() if local is not None and local.is_file() else b""
        found = _read(repo, asked, folder, data)
        if found is None:
            continue
        data, commit = found
        store = RemoteStore(repo, asked, commit, _checked(repo, commit, folder, data), data)
        if lock is not None and revision in (None, lock.revision):
            _compare(store, lock)
        return store
    named = profile or " or ".join(PROFILES)
    raise ArchiveNotFoundError(
        f"{repo} at {revision or 'its published revision'} has no {config} ({named}), or is just "
        f"being published. Name another --revision or --profile, or publish it: "
        f"lamofcbench push {config} --repo {repo}"
    )


def _read(repo: str, revision: str, folder: str, local: bytes) -> tuple[bytes, str] | None:
    """A manifest that matches the hash beside it, and its commit; None if either is not there."""
    where = ""
    for _ in range(TRIES):
        found = read_small(repo, revision, f"{folder}/{MANIFEST_SHA256}", HASH_LIMIT)
        if found is None:
            return None
        line, commit = found
        if line == _line(local):
            return local, commit
        fetched = read_small(repo, commit, f"{folder}/{MANIFEST}", MANIFEST_LIMIT)
        if fetched is None:
            return None
        if line == _line(fetched[0]):
            return fetched[0], commit
        where = (
            f"{repo} at {commit}: {folder}/{MANIFEST}: its sha256 is {sha256_bytes(fetched[0])}, "
            f"not the one in {MANIFEST_SHA256}"
        )
    raise IntegrityError(
        f"{where}. Pull another revision, or publish it again with lamofcbench push"
    )


def _line(data: bytes) -> bytes:
    return f"{sha256_bytes(data)}  {MANIFEST}\n".encode()


def _checked(repo: str, commit: str, folder: str, data: bytes) -> Manifest:
    where = f"{repo} at {commit}: {folder}/{MANIFEST}"
    manifest = parse_manifest(data, Path(folder) / MANIFEST)
    if f"{manifest.config}/{manifest.profile}" != folder:
        raise IntegrityError(f"{where}: is that of {manifest.config}/{manifest.profile}")
    for path in manifest.files:
        # It names where files are written to.
        if not _is_plain(path):
            raise IntegrityError(f"{where}: lists {path!r}, which is no file of a store")
    return manifest


def _is_plain(path: str) -> bool:
    steps = PurePosixPath(path).parts
    return (
        path == "/".join(steps)
        and re.fullmatch(r"[\w.+=-]+(/[\w.+=-]+)*", path) is not None
        and not {".", ".."} & set(steps)
        and (steps[0] == "features.zarr" or re.fullmatch(r"samples-\w+\.parquet", path) is not None)
    )


def _compare(store: RemoteStore, lock: Lock) -> None:
    stated = (lock.manifest_sha256, lock.content_hash)
    if (store.sha256, store.manifest.content_hash) != stated:
        raise IntegrityError(
            f"{store.repo} at {store.revision}: {store.folder} is not what was published: manifest "
            f"{store.sha256}, the lock file has {lock.manifest_sha256}"
        )
