"""Pieces of Markdown: tables, figures and numbers as cards show them."""

import math
from collections.abc import Iterable, Sequence

__all__ = ["bullet", "code", "figure", "interval", "number", "size", "table"]

UNITS = ("B", "kB", "MB", "GB", "TB")


def table(titles: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table; cells are written as they are."""
    lines = [titles, ["---"] * len(titles), *rows]
    return "\n".join("| " + " | ".join(_cell(cell) for cell in line) + " |" for line in lines)


def _cell(value: object) -> str:
    return str(value).replace("|", "\\|").replace("\n", " ")


def bullet(name: str, value: object) -> str:
    """One line of a list."""
    return f"- **{name}**: {value}"


def code(language: str, text: str) -> str:
    """A block of code."""
    return f"```{language}\n{text.rstrip()}\n```"


def figure(caption: str, name: str) -> str:
    """A figure that lies beside the card."""
    return f"![{caption}]({name})"


def number(value: float | None) -> str:
    """Three significant digits, or a dash for nothing."""
    if value is None or math.isnan(value):
        return "-"
    if value and not 1e-4 <= abs(value) < 1e5:
        return f"{value:.2e}"
    digits = max(0, 2 - math.floor(math.log10(abs(value)))) if value else 0
    return f"{value:.{digits}f}"


def interval(value: float | None, low: float | None, high: float | None) -> str:
    """A value with its interval, of which an end may be open."""
    if value is None:
        return "-"
    if low is None and high is None:
        return number(value)
    ends = ("..." if end is None else number(end) for end in (low, high))
    return f"{number(value)} [{', '.join(ends)}]"


def size(count: int) -> str:
    """Bytes in decimal units."""
    value, unit = float(count), 0
    while value >= 1000 and unit < len(UNITS) - 1:
        value, unit = value / 1000, unit + 1
    return f"{count} B" if unit == 0 else f"{value:.1f} {UNITS[unit]}"
