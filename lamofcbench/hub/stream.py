"""A store on the Hub, read in place: which profile, which commit, and its files' bytes."""

import re
from collections.abc import Sequence
from pathlib import Path

from lamofcbench.atomic import sha256_bytes
from lamofcbench.errors import ArchiveNotFoundError, IntegrityError, UnknownNameError
from lamofcbench.hub.ranges import MissingFile, Mistaken, RangeClient, default_endpoint, retrying
from lamofcbench.manifest import MANIFEST, MANIFEST_SHA256, FileEntry
from lamofcbench.spec import list_configs

__all__ = ["HubStore", "open_store"]

CONFIG = re.compile(r"[a-z0-9]+(-[a-z0-9]+)+")
PROFILE = re.compile(r"tiny|full|x-[a-z0-9][a-z0-9.-]*")
MAX_MANIFEST = 64 << 20
# A file of no more bytes comes whole, and stays: its parts would cost more in requests.
SMALL_FILE = 2048


class _HubFile:
    """One file of a store, at a fixed commit."""

    fleeting = True

    def __init__(self, store: "HubStore", path: str, entry: FileEntry) -> None:
        self._store = store
        self._path = path
        self._entry = entry
        self._whole: memoryview | None = None

    def read(self, *ranges: tuple[int, int]) -> Sequence[memoryview]:
        if self._entry.bytes > SMALL_FILE:
            return self._read(ranges)
        if self._whole is None:
            (whole,) = self._read([(0, self._entry.bytes)])
            if (found := sha256_bytes(bytes(whole))) != self._entry.sha256:
                raise IntegrityError(
                    f"{self._store.store / self._path}: sha256 {found}, expected "
                    f"{self._entry.sha256}. {self._store.remedy}"
                )
            self._whole = whole
        return [self._whole[start:stop] for start, stop in ranges]

    def _read(self, ranges: Sequence[tuple[int, int]]) -> Sequence[memoryview]:
        store, entry = self._store, self._entry
        try:
            return store.client.ranges(
                f"{store.folder}/{self._path}", store.commit, entry.bytes, ranges, entry.sha256
            )
        except MissingFile:
            raise IntegrityError(f"{store.store / self._path}: missing. {store.remedy}") from None


class HubStore:
    """A published store at one commit; pickles as names.

    Attributes:
        client: of the repository.
        folder: of the store in it, ``<config>/<profile>``.
        commit: 40 hex digits.
        manifest_sha256: published beside the manifest.
    """

    def __init__(self, client: RangeClient, folder: str, commit: str, manifest_sha256: str) -> None:
        """Use `open_store`."""
        self.client = client
        self.folder = folder
        self.commit = commit
        self.manifest_sha256 = manifest_sha256

    @property
    def store(self) -> Path:
        """The store's name: ``org/name@<commit>/<config>/<profile>``."""
        return Path(f"{self.client.repo}@{self.commit[:12]}", self.folder)

    @property
    def remedy(self) -> str:
        """What to do about a damaged file."""
        return (
            f"It is damaged as published at {self.client.endpoint}, or on its way: try again, "
            "choose another revision=, or tell its owner"
        )

    def open(self, path: str, entry: FileEntry) -> _HubFile:
        """Name a file; it is looked for when it is read."""
        return _HubFile(self, path, entry)

    def manifest(self) -> bytes:
        """The manifest's bytes, checked against its published hash.

        Raises:
            IntegrityError: there is none, so this was published by halves.
            HubError: it can't be read, or keeps coming damaged.
        """
        name = self.store / MANIFEST

        def read() -> bytes:
            data, _ = self.client.read(f"{self.folder}/{MANIFEST}", self.commit, MAX_MANIFEST)
            if (found := sha256_bytes(data)) != self.manifest_sha256:
                raise Mistaken(f"sha256 {found}, published is {self.manifest_sha256}")
            return data

        try:
            return retrying(str(name), read)
        except MissingFile:
            raise IntegrityError(
                f"{name}: missing, so the store is published by halves. {self.remedy}"
            ) from None


def open_store(
    repo: str, config: str, profile: str | None = None, revision: str | None = None
) -> HubStore:
    """Find a published store, and fix its commit.

    Args:
        repo: ``org/name``.
        config: such as ``vqa-mllm``.
        profile: ``tiny``, ``full`` or ``x-<slug>``; by default full before tiny (which others
            there are could be told only by listing the repository).
        revision: branch, tag or commit; ``main`` by default.

    Raises:
        UnknownNameError: no config or profile has such a name.
        ArchiveNotFoundError: there is no such repository or revision, or it lacks the config.
        HubError: the Hub can't be reached.
    """
    if CONFIG.fullmatch(config) is None:
        raise UnknownNameError("config", config, list_configs())
    if profile is not None and PROFILE.fullmatch(profile) is None:
        raise UnknownNameError(f"profile of {config}", profile, ["tiny", "full"])
    client = RangeClient(default_endpoint(), repo)
    at = revision or "main"
    tried = [profile] if profile is not None else ["full", "tiny"]
    for name in tried:
        folder = f"{config}/{name}"

        def read(path: str = f"{folder}/{MANIFEST_SHA256}") -> tuple[str, str]:
            data, commit = client.read(path, at, 200)
            match = re.fullmatch(rb"([0-9a-f]{64})  manifest\.json\n", data)
            if match is None:
                raise Mistaken("not the hash of a manifest")
            return match[1].decode(), commit

        try:
            sha256, commit = retrying(f"{repo}/{folder}/{MANIFEST_SHA256}", read)
        except MissingFile:
            continue
        return HubStore(client, folder, commit, sha256)
    if config not in (known := list_configs()):
        raise UnknownNameError("config", config, known, f"{repo} at {at} has no such config.")
    raise ArchiveNotFoundError(
        f"{repo} at {at} has no {config} as {' or '.join(tried)}"
        + ("" if profile else "; name another profile= if it has one")
    )
