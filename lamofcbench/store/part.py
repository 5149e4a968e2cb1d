"""Parts of stores: which shards of which keys a download was meant to bring."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, ValidationError

from lamofcbench.atomic import compact_json, write_bytes
from lamofcbench.errors import IntegrityError
from lamofcbench.manifest import PULLED, Draft, FileEntry, Manifest, mend

__all__ = [
    "PULLING",
    "Part",
    "held_revision",
    "load_part",
    "numbers_text",
    "pull_command",
    "unfinished_download",
    "write_part",
]

PULLING = ".pull"
"""Folder of a store's unfinished download."""


class _Document(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    manifest_sha256: str
    shards: list[int]
    keys: dict[str, list[int]]
    repo: str
    revision: str


@dataclass(frozen=True)
class Part:
    """What is here of a store.

    Context and references are here for every shard of ``shards``; lengths, tables and metadata of
    the whole store are always here.

    Attributes:
        manifest_sha256: of the manifest that it is a part of.
        shards: the shards that are visible.
        keys: per key, the shards in which it is here.
        repo: where it came from.
        revision: the commit that it came from.
    """

    manifest_sha256: str
    shards: tuple[int, ...]
    keys: Mapping[str, tuple[int, ...]]
    repo: str
    revision: str

    @classmethod
    def of(
        cls,
        sha256: str,
        shards: Iterable[int],
        keys: Iterable[str],
        repo: str,
        revision: str,
    ) -> Self:
        """The part that holds some keys in some shards."""
        chosen = tuple(sorted(set(shards)))
        return cls(sha256, chosen, dict.fromkeys(keys, chosen), repo, revision)

    def has(self, path: str, shard: int) -> bool:
        """Whether an array (``<key>``, ``context/<name>``, …) is here in a shard."""
        return shard in (self.shards if "/" in path else self.keys.get(path, ()))

    def covers(self, other: "Part") -> bool:
        """Whether all of another part of the same store is here."""
        return set(other.shards) <= set(self.shards) and all(
            set(shards) <= set(self.keys.get(key, ())) for key, shards in other.keys.items()
        )

    def joined(self, other: "Part") -> "Part":
        """Both parts together."""
        names = dict.fromkeys([*self.keys, *other.keys])
        return Part(
            self.manifest_sha256,
            tuple(sorted({*self.shards, *other.shards})),
            {
                key: tuple(sorted({*self.keys.get(key, ()), *other.keys.get(key, ())}))
                for key in names
            },
            other.repo,
            other.revision,
        )

    def whole(self, manifest: Manifest) -> bool:
        """Whether it is the whole store after all."""
        every = tuple(range(manifest.shard_count))
        return all(self.keys.get(key) == every for key in manifest.keys)

    def files(self, manifest: Manifest) -> dict[str, FileEntry]:
        """Size and hash of every file that must be here."""
        absent = {
            layout.shard_path(shard)
            for path, layout in manifest.layouts.items()
            for shard in range(manifest.shard_count)
            if not self.has(path, shard)
        }
        return {path: entry for path, entry in manifest.files.items() if path not in absent}

    def absent(self, manifest: Draft) -> str:
        """What is not here, in words."""
        every = range(manifest.shard_count)
        phrases = []
        if missing := [key for key in manifest.keys if not self.keys.get(key)]:
            listed = ", ".join(missing[:4]) + (", …" if len(missing) > 4 else "")
            phrases.append(f"{len(missing)} of {len(manifest.keys)} tensors ({listed})")
        if shards := [shard for shard in every if shard not in self.shards]:
            phrases.append(f"shards {numbers_text(shards)} of {len(every)}")
        gaps = [k for k, shards in self.keys.items() if shards and set(shards) != set(self.shards)]
        if gaps:
            phrases.append(f"some of those shards for {', '.join(gaps[:4])}")
        return "; ".join(phrases)


def numbers_text(numbers: Sequence[int]) -> str:
    """Sorted numbers with runs drawn together: ``0-3, 7``."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    texts = [str(first) if first == last else f"{first}-{last}" for first, last in runs]
    return ", ".join(texts[:8]) + (", …" if len(texts) > 8 else "")


def load_part(store: Path, manifest: Manifest, manifest_sha256: str) -> Part | None:
    """What a store was pulled as; None if it is a whole one.

    Raises:
        IntegrityError: the note is damaged, or speaks of another manifest.
    """
    path = store / PULLED
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    try:
        found = _Document.model_validate(json.loads(data))
    except (ValueError, ValidationError):
        raise IntegrityError(f"{path}: not a note of what was pulled. {mend(store)}") from None
    if found.manifest_sha256 != manifest_sha256:
        raise IntegrityError(f"{path}: speaks of another manifest. {mend(store)}")
    numbers = {shard for shards in (found.shards, *found.keys.values()) for shard in shards}
    if not numbers <= set(range(manifest.shard_count)) or not found.keys.keys() <= set(
        manifest.keys
    ):
        raise IntegrityError(f"{path}: names what the manifest does not have. {mend(store)}")
    return Part(
        found.manifest_sha256,
        tuple(found.shards),
        {key: tuple(shards) for key, shards in found.keys.items()},
        found.repo,
        found.revision,
    )


def held_revision(store: Path) -> str | None:
    """The commit that a part was pulled from, without checking anything; None without a part."""
    try:
        return str(json.loads((store / PULLED).read_bytes())["revision"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def write_part(store: Path, part: Part) -> None:
    """Note what was pulled; once the manifest is there as well, the part is complete."""
    body = {
        "manifest_sha256": part.manifest_sha256,
        "shards": list(part.shards),
        "keys": {key: list(shards) for key, shards in part.keys.items()},
        "repo": part.repo,
        "revision": part.revision,
    }
    write_bytes(store / PULLED, compact_json(body))


def pull_command(store: Path, repo: str, *options: str) -> str:
    """The command that pulls into a store's archive."""
    words = ["lamofcbench pull", store.parent.name, f"--repo {repo}", f"--profile {store.name}"]
    return " ".join([*words, *options, f"--archive {store.parent.parent}"])


def unfinished_download(store: Path) -> str | None:
    """The command that finishes a download into a store; None if none is under way."""
    try:
        note = json.loads((store / PULLING / "what.json").read_bytes())
        return pull_command(store, str(note["repo"]), *map(str, note["options"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None
