"""The manifest: what a store holds, what was asked for, and which files prove it.

It is written last and atomically, so a store with a manifest is a finished one.
"""

import contextlib
import functools
import json
import math
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from lamofcbench.atomic import compact_json, sha256_bytes, write_bytes
from lamofcbench.errors import FormatVersionError, IntegrityError, UnknownNameError
from lamofcbench.layout import ArrayLayout
from lamofcbench.spec import SPLITS, ProfileSpec

__all__ = [
    "FORMAT_VERSION",
    "MANIFEST",
    "MANIFEST_SHA256",
    "PULLED",
    "ArrayEntry",
    "CaptureEntry",
    "Draft",
    "FileEntry",
    "Manifest",
    "ModelEntry",
    "ShardEntry",
    "SourceEntry",
    "Totals",
    "content_hash",
    "differences",
    "load_manifest",
    "mend",
    "parse_manifest",
    "write_manifest",
]

FORMAT_VERSION = 1
MANIFEST = "manifest.json"
MANIFEST_SHA256 = "manifest.json.sha256"
PULLED = "pulled.json"

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Count = Annotated[int, Field(ge=0)]


class _Entry(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


class ModelEntry(_Entry):
    """The model that the features come from."""

    id: str
    revision: str | None
    family: str
    licence: str
    parameters_loaded: Count
    parameters_total: Count


class SourceEntry(_Entry):
    """The data that went in, and how samples were chosen."""

    id: str
    revision: str | None
    split: str
    calibration_split: str
    licence: str
    selection: str
    seed: int


class CaptureEntry(_Entry):
    """How and when the features were captured."""

    device: str
    dtype: str
    versions: dict[str, str]
    seed: int
    git_commit: str | None
    date: str


class ArrayEntry(_Entry):
    """One array: axes, full shape, dtypes, and how it is cut."""

    axes: list[str]
    shape: list[int]
    captured_dtype: str
    logical_dtype: str
    stored_dtype: str
    ragged_axis: str | None
    chunk_shape: list[int]
    shard_shape: list[int]
    compression: str


class FileEntry(_Entry):
    """Size and hash of a file."""

    bytes: Count
    sha256: Sha256


class ShardEntry(_Entry):
    """A run of consecutive samples: ids, lengths per ragged axis, rows that were skipped."""

    index: Count
    samples: list[str]
    lengths: dict[str, list[Count]]
    skipped: list[Count]


class Totals(_Entry):
    """Sums over the store.

    ``bytes`` are those of all listed files, ``raw_bytes`` those of the features' values before
    compression, ``elements`` their number.
    """

    samples: Count
    skipped: Count
    bytes: Count
    raw_bytes: Count
    elements: Count


class Draft(_Entry):
    """The part of a manifest that is known before the first sample: what was asked for."""

    format_version: int
    config: str
    profile: str
    category: str
    title: str
    model: ModelEntry
    split_point: str
    source: SourceEntry
    capture: CaptureEntry
    declaration: ProfileSpec
    request_sha256: Sha256
    splits: dict[str, Count]
    keys: dict[str, ArrayEntry]
    context: dict[str, ArrayEntry]
    reference: dict[str, ArrayEntry]

    @functools.cached_property
    def layouts(self) -> dict[str, ArrayLayout]:
        """Layout of every array, by its path under ``features.zarr``."""
        groups = (("", self.keys), ("context/", self.context), ("reference/", self.reference))
        return {
            prefix + name: ArrayLayout.from_manifest(prefix + name, entry.model_dump())
            for prefix, entries in groups
            for name, entry in entries.items()
        }

    @property
    def samples(self) -> int:
        """Samples of all splits."""
        return sum(self.splits.values())

    @property
    def samples_per_shard(self) -> int:
        """Samples in every shard but the last."""
        return next(iter(self.keys.values())).shard_shape[0]

    @property
    def shard_count(self) -> int:
        """Shards of the finished store."""
        return math.ceil(self.samples / self.samples_per_shard)

    def shard_rows(self, shard: int) -> range:
        """Store rows of a shard."""
        step = self.samples_per_shard
        return range(shard * step, min((shard + 1) * step, self.samples))

    def split_rows(self, split: str) -> range:
        """Store rows of a split, in order.

        Raises:
            UnknownNameError: the store has no such split.
        """
        if split not in self.splits:
            raise UnknownNameError("split", split, self.splits)
        start = 0
        for name in SPLITS[: SPLITS.index(split)]:
            start += self.splits.get(name, 0)
        return range(start, start + self.splits[split])


class Manifest(Draft):
    """Contents of ``manifest.json``; see ``FORMAT.md``.

    ``shared_prefix`` counts the leading tokens that are the same in all samples, and
    ``constant_keys`` lists the keys whose tensor is: what every decoder can hold is not rate.
    """

    shards: list[ShardEntry]
    files: dict[str, FileEntry]
    totals: Totals
    shared_prefix: Count
    constant_keys: list[str]
    content_hash: Sha256

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if [shard.index for shard in self.shards] != list(range(self.shard_count)):
            raise ValueError(f"shards are not numbered from 0 to {self.shard_count - 1}")
        for shard in self.shards:
            rows = self.shard_rows(shard.index)
            if len(shard.samples) != len(rows):
                raise ValueError(f"shard {shard.index}: {len(shard.samples)} ids, {len(rows)} rows")
            for axis, values in shard.lengths.items():
                if len(values) != len(rows):
                    raise ValueError(f"shard {shard.index}: {axis}: {len(values)} lengths")
        return self


def content_hash(files: dict[str, str]) -> str:
    """Sha256 over the sorted lines ``path sha256`` of everything under ``features.zarr/``."""
    lines = (
        f"{path} {files[path]}\n" for path in sorted(files) if path.startswith("features.zarr/")
    )
    return sha256_bytes("".join(lines).encode())


def write_manifest(store: Path, manifest: Manifest) -> None:
    """Write the manifest and its hash; the manifest itself last, for it is the commit point."""
    data = compact_json(manifest.model_dump(mode="json"))
    write_bytes(store / MANIFEST_SHA256, f"{sha256_bytes(data)}  {MANIFEST}\n".encode())
    write_bytes(store / MANIFEST, data)


def load_manifest(store: Path) -> Manifest:
    """Read and check a store's manifest.

    Raises:
        FileNotFoundError: there is none: the store is unfinished, or not a store.
        IntegrityError: it does not match its hash, or contradicts itself.
        FormatVersionError: a newer version of this package wrote it.
    """
    path = store / MANIFEST
    data = path.read_bytes()
    beside = store / MANIFEST_SHA256
    if not beside.is_file():
        raise IntegrityError(f"{beside}: missing, so {MANIFEST} cannot be checked. {mend(store)}")
    found = sha256_bytes(data)
    if beside.read_bytes() != f"{found}  {MANIFEST}\n".encode():
        raise IntegrityError(
            f"{path}: its sha256 is {found}, not the one in {beside.name}; "
            f"one of the two files is damaged. {mend(store)}"
        )
    return parse_manifest(data, path)


def parse_manifest(data: bytes, where: Path, remedy: str | None = None) -> Manifest:
    """Parse a manifest's bytes; ``where`` names it in messages, which end with ``remedy``."""
    remedy = remedy or mend(where.parent)
    try:
        raw: Any = json.loads(data)
        version = raw["format_version"]
    except (ValueError, KeyError, TypeError) as error:
        raise IntegrityError(f"{where}: not a manifest: {error}. {remedy}") from None
    if version != FORMAT_VERSION:
        raise FormatVersionError(
            f"{where}: format version {version}, this package reads {FORMAT_VERSION}; "
            "run `pip install --upgrade lamofcbench`"
        )
    try:
        return Manifest.model_validate(raw)
    except ValidationError as error:
        fault = error.errors()[0]
        place = ".".join(str(part) for part in fault["loc"]) or "whole"
        raise IntegrityError(f"{where}: {place}: {fault['msg']}. {remedy}") from None


def mend(store: Path) -> str:
    """The command that makes a damaged store anew, as the last sentence of a message."""
    config, profile, archive = store.parent.name, store.name, store.parent.parent
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        repo = json.loads((store / PULLED).read_bytes())["repo"]
        return (
            f"To mend: rm -r {store} && "
            f"lamofcbench pull {config} --profile {profile} --repo {repo} --archive {archive}"
        )
    return (
        f"To mend: rm -r {store} && "
        f"make extract SCENARIO={config} PROFILE={profile} ARCHIVE={archive}"
    )


def differences(found: Draft, asked: Draft) -> list[str]:
    """What two requests differ in, a phrase each: what it was in ``found``, what it is now."""
    names = {"format_version", "model", "declaration"}
    here, now = (_flatten(draft.model_dump(mode="json", include=names)) for draft in (found, asked))
    return [
        f"{name} was {here.get(name)}, now {now.get(name)}"
        for name in sorted(here.keys() | now.keys())
        if here.get(name) != now.get(name)
    ]


def _flatten(value: Any, prefix: str = "") -> dict[str, Any]:
    if isinstance(value, dict):
        pairs: Any = value.items()
    elif isinstance(value, list):
        pairs = enumerate(value)
    else:
        return {prefix: value}
    flat: dict[str, Any] = {}
    for name, body in pairs:
        flat.update(_flatten(body, f"{prefix}.{name}" if prefix else str(name)))
    return flat
