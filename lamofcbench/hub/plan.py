"""What a push will do: which files, in which order, within which limits."""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from lamofcbench.atomic import sha256_bytes, sha256_file
from lamofcbench.errors import ArchiveNotFoundError, HubError, IntegrityError, NotPulledError
from lamofcbench.manifest import (
    MANIFEST,
    MANIFEST_SHA256,
    PULLED,
    FileEntry,
    Manifest,
    load_manifest,
)

__all__ = [
    "ADVISED_BYTES",
    "CARDS",
    "LocalStore",
    "PushPlan",
    "RemoteFile",
    "changed",
    "largest_folder",
    "open_local",
    "plan_push",
    "tag_name",
]

CARDS = ("README.md", "croissant.json")
# The Hub's published limits: files of a repository, entries of a folder, bytes of a file.
MOST_FILES = 100_000
MOST_ENTRIES = 10_000
MOST_BYTES = 50_000_000_000
ADVISED_BYTES = 20_000_000_000


@dataclass(frozen=True)
class LocalStore:
    """A finished store that is to be published.

    Attributes:
        folder: of the store.
        manifest: of it.
        sha256: of the manifest.
    """

    folder: Path
    manifest: Manifest
    sha256: str

    @property
    def name(self) -> str:
        """Its folder in the archive and in the repository."""
        return f"{self.manifest.config}/{self.manifest.profile}"


@dataclass(frozen=True)
class PushPlan:
    """Files of a push, by path in the repository, in the order in which they are sent.

    Attributes:
        stores: that are published.
        archive: their folder.
        shards: sent first.
        tables: lengths, metadata and sample tables, sent next.
        manifests: and cards, sent last.
        tag: of the revision, set at the end.
    """

    stores: list[LocalStore]
    archive: Path
    shards: dict[str, FileEntry]
    tables: dict[str, FileEntry]
    manifests: dict[str, FileEntry]
    tag: str

    @property
    def files(self) -> dict[str, FileEntry]:
        """Every file."""
        return {**self.shards, **self.tables, **self.manifests}

    @property
    def bytes(self) -> int:
        """Of every file."""
        return sum(entry.bytes for entry in self.files.values())


def open_local(store: Path) -> LocalStore:
    """Look at a store that is to be published.

    Raises:
        ArchiveNotFoundError: it is not finished.
        NotPulledError: it is a part of a downloaded store.
        IntegrityError: its manifest is damaged.
    """
    if (store / PULLED).exists():
        raise NotPulledError(
            f"{store}: a part of a downloaded store; only whole ones are published. "
            "Pull the rest first: lamofcbench pull"
        )
    try:
        manifest = load_manifest(store)
    except FileNotFoundError:
        raise ArchiveNotFoundError(
            f"{store}: unfinished; only whole stores are published. To finish it: make extract "
            f"SCENARIO={store.parent.name} PROFILE={store.name} ARCHIVE={store.parent.parent}"
        ) from None
    if f"{manifest.config}/{manifest.profile}" != f"{store.parent.name}/{store.name}":
        raise IntegrityError(f"{store}: is a store of {manifest.config}/{manifest.profile}")
    return LocalStore(store, manifest, sha256_file(store / MANIFEST))


def tag_name(stores: Iterable[LocalStore]) -> str:
    """Name of the revision that holds these stores: equal contents, equal name."""
    lines = sorted(f"{s.name} {s.manifest.content_hash} {s.sha256}\n" for s in stores)
    return f"v1-{sha256_bytes(''.join(lines).encode())[:12]}"


def plan_push(archive: Path, stores: list[LocalStore], tag: str | None = None) -> PushPlan:
    """Put the files of stores in order, and check them against the Hub's limits.

    Args:
        archive: its folder; a card and a Croissant description in it are published, too.
        stores: from `open_local`.
        tag: of the revision; by default derived from the contents.

    Raises:
        HubError: the Hub takes no repository like that.
    """
    shards: dict[str, FileEntry] = {}
    tables: dict[str, FileEntry] = {}
    last: dict[str, FileEntry] = {}
    for store in stores:
        manifest = store.manifest
        of_shards = {
            layout.shard_path(shard)
            for layout in manifest.layouts.values()
            for shard in range(manifest.shard_count)
        }
        for path, entry in manifest.files.items():
            (shards if path in of_shards else tables)[f"{store.name}/{path}"] = entry
        for name in (MANIFEST_SHA256, MANIFEST):
            last[f"{store.name}/{name}"] = _entry(store.folder / name)
    last |= {name: _entry(archive / name) for name in CARDS if (archive / name).is_file()}
    plan = PushPlan(stores, archive, shards, tables, last, tag or tag_name(stores))
    _check_limits(plan)
    return plan


def _entry(path: Path) -> FileEntry:
    return FileEntry(bytes=path.stat().st_size, sha256=sha256_file(path))


def largest_folder(files: Iterable[str]) -> tuple[str, int]:
    """The folder with most entries, files and folders, and how many it has."""
    inside: dict[str, set[str]] = {"": set()}
    for path in files:
        step = PurePosixPath(path)
        for parent in step.parents:
            inside.setdefault(str(parent), set()).add(step.name)
            step = parent
    name = max(inside, key=lambda folder: len(inside[folder]))
    return name, len(inside[name])


def _check_limits(plan: PushPlan) -> None:
    files = plan.files
    folder, entries = largest_folder(files)
    path = max(files, key=lambda name: files[name].bytes)
    for what, found, most in (
        ("the archive: files", len(files), MOST_FILES),
        (f"{folder}: entries", entries, MOST_ENTRIES),
        (f"{path}: bytes", files[path].bytes, MOST_BYTES),
    ):
        if found > most:
            raise HubError(
                f"{what}: {found}, the Hub takes {most}. Publish fewer configs, or to several "
                "repositories"
            )


def git_oid(path: Path) -> str:
    """Git's name of a file's contents, which is all that the Hub tells of small text files."""
    data = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()


def changed(
    files: Mapping[str, FileEntry], archive: Path, remote: Mapping[str, "RemoteFile"]
) -> list[str]:
    """Paths whose contents are not those in the repository."""
    return [
        path
        for path, entry in files.items()
        if path not in remote
        or remote[path].bytes != entry.bytes
        or (
            remote[path].sha256 != entry.sha256
            if remote[path].sha256
            else remote[path].oid != git_oid(archive / path)
        )
    ]


@dataclass(frozen=True)
class RemoteFile:
    """What the Hub tells of a file: size, git's name, and the sha256 of what is no small text."""

    bytes: int
    oid: str
    sha256: str | None
