"""How the verbs print: JSON, tables, sizes, and the options that they share."""

import json
from collections.abc import Sequence
from typing import Any

import click

__all__ = ["archive_option", "bytes_text", "json_option", "print_json", "print_table"]

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
archive_option = click.option(
    "--archive",
    default="lamofcbench",
    help="The archive's folder, or org/name for what was pulled from there; by default "
    "$LAMOFCBENCH_ARCHIVE, ./archive, the user cache or $LAMOFCBENCH_REPO.",
)


def print_json(value: Any) -> None:
    """Print a value as indented JSON."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))


def print_table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print rows in aligned columns under a header."""
    table = [list(header), *([str(cell) for cell in row] for row in rows)]
    widths = [max(len(row[i]) for row in table) for i in range(len(header))]
    for row in table:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        click.echo("  ".join(cells).rstrip())


def bytes_text(count: int | None) -> str:
    """A size for people: decimal units, as disks are sold."""
    if count is None:
        return "-"
    size, unit = float(count), "B"
    for larger in ("kB", "MB", "GB", "TB"):
        if size < 1000:
            break
        size, unit = size / 1000, larger
    return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
