"""Every exception that this package raises on purpose.

Each one is also the builtin that callers would expect, and carries one line that says what is
wrong, where, and what to do about it.
"""

import difflib
from collections.abc import Iterable

__all__ = [
    "ArchiveNotFoundError",
    "BitstreamError",
    "DeclarationError",
    "FormatVersionError",
    "HubError",
    "IncompleteArchiveWarning",
    "IntegrityError",
    "LamofcError",
    "LockedError",
    "MiniatureArchiveWarning",
    "MissingDependencyError",
    "ModelError",
    "NotPulledError",
    "RequestMismatchError",
    "SampleError",
    "SelectionError",
    "SourceError",
    "UnknownNameError",
    "near_matches",
]


class LamofcError(Exception):
    """Base of all errors of this package."""


class DeclarationError(LamofcError, ValueError):
    """A declaration (TOML) is malformed; the message lists every fault in the file."""


class UnknownNameError(LamofcError, KeyError):
    """A name (config, profile, tensor, mode) is not known; the message lists near matches."""

    def __init__(self, what: str, name: str, known: Iterable[str], hint: str = "") -> None:
        """Build the message from the kind of name, the name and those that are known."""
        self.message = f"unknown {what} {name!r}. {near_matches(name, known)}{hint}".rstrip()
        super().__init__(self.message)

    def __str__(self) -> str:
        """Return the plain message (a bare KeyError would quote it)."""
        return self.message


class ArchiveNotFoundError(LamofcError, FileNotFoundError):
    """There is no archive, or it lacks a config; the message has the command that makes it."""


class IntegrityError(LamofcError, OSError):
    """A file is missing, cut short, altered or contradicts another one."""


class HubError(LamofcError, OSError):
    """The Hub cannot be reached, refuses, or has no such repository or revision."""


class NotPulledError(LamofcError, LookupError):
    """A sample or tensor is not in this part of a store; the message has the command for it."""


class BitstreamError(LamofcError, ValueError):
    """A bitstream is cut, altered, of another version, or claims what cannot be."""


class FormatVersionError(LamofcError, ValueError):
    """A store was written in a format that this version cannot read."""


class RequestMismatchError(LamofcError, ValueError):
    """An unfinished or finished store was asked for differently than now."""


class LockedError(LamofcError, BlockingIOError):
    """Another process writes the same shards."""


class SampleError(LamofcError, ValueError):
    """One sample breaks its declaration: shape, dtype, length or values."""


class SelectionError(LamofcError, IndexError):
    """A selection of samples is malformed or reaches beyond its split."""


class SourceError(LamofcError, ValueError):
    """A source data set is missing, malformed or too small."""


class ModelError(LamofcError, ValueError):
    """A checkpoint is missing, unreadable or of another architecture."""


class MissingDependencyError(LamofcError, ImportError):
    """An optional library is not installed; the message names the extra that brings it."""


class IncompleteArchiveWarning(UserWarning):
    """A store is unfinished or partial; only what is there is served."""


class MiniatureArchiveWarning(UserWarning):
    """There is no other archive: the miniature one that comes with the package is served."""


def near_matches(name: str, known: Iterable[str]) -> str:
    """Return "Did you mean …?" or the list of known names, for an error message."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    if close:
        return f"Did you mean {' or '.join(repr(c) for c in close)}? "
    return f"Known: {', '.join(names[:12])}{', …' if len(names) > 12 else ''}. " if names else ""
