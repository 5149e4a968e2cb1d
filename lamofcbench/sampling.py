"""Choosing samples of a split, by position, and tensors, by name."""

import fnmatch
from collections.abc import Iterable

from lamofcbench.errors import SelectionError, UnknownNameError

__all__ = ["Selection", "select_keys", "select_positions"]

Selection = str | slice | Iterable[int] | None


def select_positions(selection: Selection, count: int, what: str) -> list[int]:
    """Turn a selection into positions.

    Args:
        selection: ``"0:10"``, a slice, or integers (negative ones count from the end); None for
            all.
        count: samples to choose from.
        what: what they belong to, for messages.

    Raises:
        SelectionError: malformed, beyond the end, or twice the same.
    """
    if selection is None:
        return list(range(count))
    if isinstance(selection, str):
        try:
            parts = [int(part) if part else None for part in selection.split(":")]
        except ValueError:
            parts = []
        if not 1 <= len(parts) <= 3 or parts == [None]:
            raise SelectionError(f"samples {selection!r}: expected first:last or a number")
        if len(parts) > 1:
            selection = slice(*parts)
        else:
            selection = [part for part in parts if part is not None]
    if isinstance(selection, slice):
        return list(range(count))[selection]
    chosen = []
    for position in selection:
        if not -count <= position < count:
            raise SelectionError(f"sample {position}: {what} holds {count}")
        chosen.append(position % count)
    if len(set(chosen)) != len(chosen):
        raise SelectionError(f"samples of {what}: one is chosen twice")
    return chosen


def select_keys(tensors: Iterable[str] | None, known: list[str]) -> list[str]:
    """Turn a selection of tensors into keys.

    Args:
        tensors: names, exact or with ``*``; None for all.
        known: the keys to choose from.

    Raises:
        UnknownNameError: a name matches none; near matches are listed.
    """
    if tensors is None:
        return known
    if isinstance(tensors, str):
        tensors = [tensors]
    chosen: list[str] = []
    for name in tensors:
        # Only an explicit wildcard matches more than one key: layer.1 is not layer.19.
        matches = fnmatch.filter(known, name) if "*" in name else [k for k in known if k == name]
        if not matches:
            raise UnknownNameError("tensor", name, known)
        chosen += [key for key in matches if key not in chosen]
    return chosen
