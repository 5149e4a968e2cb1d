"""A table of names and the objects that they stand for, each imported when first asked for."""

import importlib
from collections.abc import Iterator
from typing import Any

from lamofcbench.errors import UnknownNameError

__all__ = ["Registry"]


class Registry:
    """Names mapped to ``"module:object"`` strings; refuses duplicates, suggests near matches."""

    def __init__(self, what: str, entries: dict[str, str] | None = None) -> None:
        """Start from a dict of entries; ``what`` names the kind of thing in messages."""
        self.what = what
        self._entries: dict[str, str] = {}
        for name, target in (entries or {}).items():
            self.add(name, target)

    def add(self, name: str, target: str) -> None:
        """Register ``"module:object"`` under a name.

        Raises:
            ValueError: the name is taken by another target, or the target is malformed.
        """
        if target.count(":") != 1:
            raise ValueError(f"{self.what} {name!r}: target {target!r} is not 'module:object'")
        if self._entries.setdefault(name, target) != target:
            raise ValueError(f"{self.what} {name!r} is already {self._entries[name]!r}")

    def load(self, name: str) -> Any:
        """Import and return what a name stands for; `UnknownNameError` with near matches."""
        if name not in self._entries:
            raise UnknownNameError(self.what, name, self._entries)
        module, _, attribute = self._entries[name].partition(":")
        return getattr(importlib.import_module(module), attribute)

    def __contains__(self, name: object) -> bool:
        """Say whether a name is registered."""
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names, sorted."""
        return iter(sorted(self._entries))
