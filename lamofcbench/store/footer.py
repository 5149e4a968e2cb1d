"""Some row groups' entries of a Parquet footer, without the rest of the footer.

A footer is one Thrift structure (compact protocol) that lists every row group, and so can be longer
than the rows that are wanted. Entries are nearly of one size, so a window around the place where
the wanted one should be holds it. They don't state their numbers: the rows themselves must tell
whether it is the right one. Together with the footer's beginning, which has the schema, each makes
a footer of its own.
"""

from collections.abc import Iterator

__all__ = ["single_group_footers"]

# Types of Thrift's compact protocol.
BYTE, INTEGERS, DOUBLE, BINARY, LISTS, STRUCT = 3, (4, 5, 6), 7, 8, (9, 10), 12
BOOLEANS = (1, 2)
MAX_DEPTH = 12
# A field of FileMetaData, and the first fields of RowGroup.
ROW_GROUPS = 4
ENTRY = [(1, 9), (2, 6), (3, 6)]


def single_group_footers(head: bytes, window: bytes) -> list[tuple[int, bytes]]:
    """Make footers that have one row group each.

    Args:
        head: the first bytes of the whole footer, with the schema.
        window: bytes from anywhere in it.

    Returns:
        For each row group whose entry is whole in ``window``, in order, its place there and the
        footer; nothing if the schema isn't whole in ``head``.
    """
    try:
        start = _row_groups(head)
    except (ValueError, IndexError):
        return []
    # Each entry begins with its list of columns: field 1, a list.
    at = window.find(b"\x19")
    while at >= 0:
        entries = _entries(window, at)
        # One alone may be bytes that happen to look like it.
        if len(entries) > 1:
            one = bytes([1 << 4 | STRUCT])
            return [(a, head[:start] + one + window[a:b] + b"\0") for a, b in entries]
        at = window.find(b"\x19", at + 1)
    return []


def _row_groups(head: bytes) -> int:
    """Where the list of row groups begins, behind its field's header."""
    for field, kind, start, _ in _fields(head, 0, lazy=ROW_GROUPS):
        if field == ROW_GROUPS and kind in LISTS:
            return start
    raise ValueError("no row groups")


def _entries(data: bytes, at: int) -> list[tuple[int, int]]:
    """Where row groups' entries that follow one another from ``at`` begin and end."""
    found: list[tuple[int, int]] = []
    while True:
        try:
            fields = list(_fields(data, at))
        except (ValueError, IndexError):
            return found
        if [field[:2] for field in fields[:3]] != ENTRY or data[fields[0][2]] & 15 != STRUCT:
            return found
        # The byte that ends a structure follows its last field.
        end = fields[-1][3] + 1
        found.append((at, end))
        at = end


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
        shift += 7
        if shift > 63:
            raise ValueError("an endless number")


def _fields(
    data: bytes, at: int, depth: int = 0, lazy: int = -1
) -> Iterator[tuple[int, int, int, int]]:
    """Fields of a structure: number, type, where it begins and ends; ``lazy`` is not skipped."""
    field = 0
    while header := data[at]:
        at += 1
        if header >> 4:
            field += header >> 4
        else:
            number, at = _varint(data, at)
            field = number >> 1 ^ -(number & 1)
        kind = header & 15
        end = at if field == lazy or kind in BOOLEANS else _skip(data, at, kind, depth)
        yield field, kind, at, end
        at = end


def _skip(data: bytes, at: int, kind: int, depth: int) -> int:
    """Where a value ends."""
    if depth > MAX_DEPTH:
        raise ValueError("nested too deeply")
    if kind in INTEGERS:
        _, at = _varint(data, at)
    elif kind == BINARY:
        count, at = _varint(data, at)
        at += count
    elif kind in LISTS:
        header = data[at]
        at += 1
        count, inner = header >> 4, header & 15
        if count == 15:
            count, at = _varint(data, at)
        for _ in range(count):
            at = at + 1 if inner in BOOLEANS else _skip(data, at, inner, depth + 1)
    elif kind == STRUCT:
        for _, _, _, end in _fields(data, at, depth + 1):
            at = end
        # Without fields there is but the byte that ends it; with some, it follows the last.
        at += 1
    elif kind in (BYTE, DOUBLE):
        at += 1 if kind == BYTE else 8
    else:
        raise ValueError(f"type {kind}")
    if at > len(data):
        raise IndexError("beyond the end")
    return at
