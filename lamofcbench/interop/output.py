"""What all exports share: whose folder it is, and files that are there whole or not at all."""

import contextlib
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

from lamofcbench.atomic import (
    TEMPORARY,
    canonical_json,
    publish,
    sha256_bytes,
    sha256_file,
    write_bytes,
)
from lamofcbench.errors import LamofcError, SampleError
from lamofcbench.manifest import MANIFEST, Draft

__all__ = [
    "EXPORT",
    "Samples",
    "claim",
    "counted",
    "finish",
    "fresh_file",
    "manifest_sha256",
    "said_of",
    "write_json",
]

EXPORT = "lamofcbench-export.json"
"""Says what a folder of exported files is of; ``complete`` only once all of them are there."""


class Samples(Protocol):
    """An archive's samples, such as a `lamofcbench.dataset.FeatureDataset`."""

    store: Path
    split: str
    keys: list[str]

    @property
    def manifest(self) -> Draft:
        """The store's manifest."""

    def axes(self, key: str) -> tuple[str, ...]:
        """Names of the axes of a key's tensors, in the model's own layout."""

    def ids(self) -> list[str]:
        """The samples' ids, in order."""

    def lengths(self, position: int) -> dict[str, int]:
        """Length per ragged axis of one of the samples."""

    def __len__(self) -> int:
        """Count the samples."""

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Iterate over samples: see `FeatureDataset`."""


def write_json(path: Path, value: Any) -> None:
    """Write JSON for people, whole or not at all.

    Raises:
        SampleError: the disk is full or the folder cannot be written.
    """
    text = json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    try:
        write_bytes(path, text.encode())
    except OSError as error:
        raise SampleError(f"{path} cannot be written: {_said(error)}") from None


def _said(error: OSError) -> str:
    return " ".join(str(error.strerror or error).split())


def manifest_sha256(samples: Samples) -> str | None:
    """Hash of the store's manifest; None if the store is unfinished."""
    path = samples.store / MANIFEST
    return sha256_file(path) if path.is_file() else None


def said_of(samples: Samples, format_name: str, **more: Any) -> dict[str, Any]:
    """What an export is of, as it stands in its files.

    Args:
        samples: which.
        format_name: as in ``export --to``.
        **more: what else makes it another export.
    """
    return {
        "format": format_name,
        "config": samples.manifest.config,
        "profile": samples.manifest.profile,
        "split": samples.split,
        "keys": samples.keys,
        **counted(samples.ids()),
        "manifest_sha256": manifest_sha256(samples),
        **more,
    }


def counted(ids: Sequence[str]) -> dict[str, Any]:
    """Which samples an export is of, in two entries."""
    return {"samples": len(ids), "samples_sha256": sha256_bytes(canonical_json(list(ids)))}


def claim(folder: Path, said: dict[str, Any]) -> None:
    """Make a folder for an export, or take up one of the same.

    Raises:
        SampleError: the folder holds something else.
    """
    mine = said | {"complete": False}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()) and _found(folder) != mine:
            raise SampleError(
                f"{folder} holds something else than this export: name an empty folder"
            )
        for leftover in folder.rglob(f".*{TEMPORARY}"):
            leftover.unlink()
    except OSError as error:
        raise SampleError(f"{folder} cannot be written: {_said(error)}") from None
    write_json(folder / EXPORT, mine)


def _found(folder: Path) -> dict[str, Any] | None:
    try:
        found = json.loads((folder / EXPORT).read_bytes())
        return {**found, "complete": False}
    except (OSError, ValueError, TypeError):
        return None


def finish(folder: Path, said: dict[str, Any]) -> None:
    """Say that an export is complete."""
    write_json(folder / EXPORT, said | {"complete": True})


@contextlib.contextmanager
def fresh_file(path: Path) -> Iterator[Path]:
    """Give a temporary name to write to, then move it into place; nothing is left on an error.

    Raises:
        SampleError: the disk is full or the folder cannot be written.
    """
    temporary = path.with_name(f".{path.name}"[:200] + f".{os.getpid()}{TEMPORARY}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        publish(temporary, path)
    except OSError as error:
        if isinstance(error, LamofcError):
            raise
        raise SampleError(f"{path} cannot be written: {_said(error)}") from None
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
