"""Files that are there whole or not at all: temporary name, fsync, rename; and their sha256."""

import contextlib
import hashlib
import json
import os
from pathlib import Path
from typing import Any

__all__ = [
    "TEMPORARY",
    "canonical_json",
    "compact_json",
    "fsync_folder",
    "publish",
    "sha256_bytes",
    "sha256_file",
    "write_bytes",
]

TEMPORARY = ".tmp"
"""How names of unfinished small files end; they begin with a dot. A kill may leave some behind."""


def canonical_json(value: Any) -> bytes:
    """Compact JSON with sorted keys, for hashing: equal values give equal bytes."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def compact_json(value: Any) -> bytes:
    """Compact JSON that keeps the order of keys, which says which mode is the default."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def sha256_bytes(data: bytes) -> str:
    """Hex sha256 of bytes."""
    return hashlib.sha256(data).hexdigest()


def sha256_file(path: Path) -> str:
    """Hex sha256 of a file, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fsync_folder(path: Path) -> None:
    """Make renames in a folder durable."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def publish(temporary: Path, path: Path) -> None:
    """Move a finished, fsynced temporary file to its final name, durably."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary.replace(path)
    fsync_folder(path.parent)


def write_bytes(path: Path, data: bytes) -> None:
    """Write a small file so that it is there whole, or as it was before.

    Raises:
        OSError: the disk is full or the folder cannot be written; nothing is left behind.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}{TEMPORARY}")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        publish(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise
