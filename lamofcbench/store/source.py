"""Where a store's bytes come from: files in memory maps, or whatever hands out ranges."""

import contextlib
import mmap
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol, TypeVar

from lamofcbench.errors import IntegrityError
from lamofcbench.manifest import FileEntry, mend

__all__ = ["ByteSource", "FileBytes", "LocalFolder", "checked", "map_file"]

TRIES = 3

Range = tuple[int, int]
Result = TypeVar("Result")


class FileBytes(Protocol):
    """The bytes of one file, whose size is known."""

    @property
    def fleeting(self) -> bool:
        """Whether reading again may give other bytes; see `checked`."""

    def read(self, *ranges: Range) -> Sequence[memoryview]:
        """Read ranges ``(start, stop)`` in bytes, all within the file; one view for each."""


def checked(data: FileBytes, read: Callable[[], Result]) -> Result:
    """Read something and check it, again if reading again may give other bytes.

    Raises:
        IntegrityError: the check failed, and did so each time.
    """
    for _ in range(TRIES - 1 if data.fleeting else 0):
        with contextlib.suppress(IntegrityError):
            return read()
    return read()


class ByteSource(Protocol):
    """The files of one store."""

    @property
    def store(self) -> Path:
        """The store's folder, ``…/<config>/<profile>``; elsewhere than on disk, just its name."""

    @property
    def remedy(self) -> str:
        """What mends a damaged file, as the last sentence of a message."""

    def open(self, path: str, entry: FileEntry) -> FileBytes:
        """Open a file of the store.

        Args:
            path: relative to the store.
            entry: size and hash that the manifest states.

        Raises:
            IntegrityError: it is missing, or of another size.
        """


class _Mapped:
    """A file in memory."""

    fleeting = False

    def __init__(self, data: memoryview) -> None:
        self._data = data

    def read(self, *ranges: Range) -> Sequence[memoryview]:
        return [self._data[start:stop] for start, stop in ranges]


def map_file(name: Path, num_bytes: int, remedy: str) -> FileBytes:
    """Map a file on disk; see `ByteSource.open` for what is raised."""
    try:
        with name.open("rb") as file:
            if (found := os.fstat(file.fileno()).st_size) != num_bytes:
                raise IntegrityError(f"{name}: {found} bytes, expected {num_bytes}. {remedy}")
            return _Mapped(memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)))
    except FileNotFoundError:
        raise IntegrityError(f"{name}: missing. {remedy}") from None
    except ValueError:
        # An empty file can't be mapped.
        raise IntegrityError(f"{name}: empty. {remedy}") from None


class LocalFolder:
    """A store on disk; files are mapped, not read."""

    def __init__(self, store: Path) -> None:
        """Name the store's folder."""
        self.store = store

    @property
    def remedy(self) -> str:
        """The command that makes the store anew."""
        return mend(self.store)

    def open(self, path: str, entry: FileEntry) -> FileBytes:
        """Map a file; see `ByteSource.open`."""
        return map_file(self.store / path, entry.bytes, self.remedy)
