"""A lock on a range of shards, so that several processes can share one store.

It is a byte-range lock on one file: byte k stands for shard k. The kernel refuses overlapping
ranges and releases a range when its holder dies, however it dies.
"""

import contextlib
import errno
import fcntl
import os
import struct
from pathlib import Path

from lamofcbench.errors import LockedError

__all__ = ["RangeLock"]


class RangeLock:
    """Holds shards ``first`` to ``last - 1`` of a store until `release`."""

    def __init__(self, path: Path, first: int, last: int) -> None:
        """Take the range at once, or not at all.

        Raises:
            LockedError: another writer holds some of it.
        """
        self._handle = -1
        while True:
            path.parent.mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(FileNotFoundError):
                self._handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
                self._take(path, first, last)
                if self._still_at(path):
                    return
                # The store was finished, and its folder removed, between opening and locking.
                self.release()

    def _still_at(self, path: Path) -> bool:
        try:
            return os.path.samestat(os.fstat(self._handle), path.stat())
        except FileNotFoundError:
            return False

    def _take(self, path: Path, first: int, last: int) -> None:
        try:
            if hasattr(fcntl, "F_OFD_SETLK"):
                # Owned by this handle, not by the process, so two writers in one process collide.
                fields = (fcntl.F_WRLCK, os.SEEK_SET, first, last - first, 0)
                fcntl.fcntl(self._handle, fcntl.F_OFD_SETLK, struct.pack("hhqqi4x", *fields))
            else:
                fcntl.lockf(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB, last - first, first)
        except OSError as error:
            self.release()
            if error.errno in (errno.EACCES, errno.EAGAIN):
                raise LockedError(
                    f"{path.parent.parent}: another process is writing some of shards "
                    f"{first}:{last}. Wait for it, or write other shards: SHARDS=first:last"
                ) from None
            raise

    def release(self) -> None:
        """Give the range back."""
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1
