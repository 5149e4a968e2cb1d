"""Figures of results: rate against distortion, fidelity and score, one figure a config and mode.

They must be readable in grey print: codecs differ by marker and dash, not by colour alone.
"""

import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lamofcbench.bench.curves import RATE, Board, Curve, point_setting
from lamofcbench.optional import require

__all__ = [
    "FORMATS",
    "MINIATURE_NOTE",
    "figure_path",
    "mark_asinh",
    "new_figure",
    "pages",
    "plot_board",
    "save_figure",
]

FORMATS = ("png", "svg", "pdf")
MINIATURE_NOTE = "miniature: validates the pipeline, not evidence about full models"
# Okabe and Ito's colours, which the colour-blind tell apart, without the yellow.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#000000", "#CC79A7", "#56B4E9", "#E69F00")
MARKERS = "osD^vP*Xh<>p"
DASHES = ("-", "--", "-.", (0, (4, 1, 1, 1, 1, 1)), (0, (1, 1)))
PANEL = (4.4, 3.5)
MOST_CURVES = 9
LEGEND_COLUMNS = 5
LEGEND_LETTERS = 190
DPI = 160
COLOURS_KEPT = 64
TICKS = 3
UNITS = {"rmse": " (m)"}
DISTORTION = "rel_mse"
UNCODED = "uncoded"
CHANCE = {"score": "chance", "fidelity": "no features (zeros)"}


def new_figure(width: float, height: float) -> Any:
    """Make a figure of so many inches that no window and no global state belong to."""
    return require("matplotlib.figure", "plot").Figure(
        figsize=(width, height), layout="constrained"
    )


def mark_asinh(axis: Any, low: float, high: float, scale: float) -> None:
    """Mark 0 and some powers of ten on an asinh axis, so few that their labels keep apart.

    Args:
        axis: such as a panel's ``xaxis``.
        low: its end.
        high: its other end.
        scale: below which it is linear.
    """
    ticks = [0.0]
    for sign, end in ((-1, -low), (1, high)):
        # Nearer to 0 than thrice the scale labels would run into that of 0.
        powers = range(
            math.ceil(math.log10(3 * scale)), math.floor(math.log10(max(end, scale))) + 1
        )
        step = max(1, math.ceil(len(powers) / TICKS))
        ticks += [sign * 10.0**power for power in powers[::-1][::step]]
    axis.set_ticks(sorted(ticks))
    axis.set_ticks([], minor=True)


def save_figure(figure: Any, path: Path) -> None:
    """Write a figure; its folder is made. The same figure gives the same bytes."""
    require("matplotlib", "plot").rcParams["svg.hashsalt"] = "lamofcbench"
    path.parent.mkdir(parents=True, exist_ok=True)
    fixed = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}
    if path.suffix == ".png":
        drawn = io.BytesIO()
        figure.savefig(drawn, dpi=DPI)
        # A palette takes a third of the bytes, and nothing that can be seen.
        image = require("PIL.Image", "plot").open(drawn).convert("RGB")
        image.quantize(COLOURS_KEPT).save(path, optimize=True)
        return
    figure.savefig(path, metadata=fixed[path.suffix[1:]])


def pages(board: Board) -> list[list[Curve]]:
    """Share out a board's curves among figures: more than a few in one can't be told apart."""
    shown = [curve for curve in board.curves.values() if curve.points]
    count = math.ceil(len(shown) / MOST_CURVES)
    size = math.ceil(len(shown) / max(count, 1))
    return [shown[at : at + size] for at in range(0, len(shown), size or 1)]


def figure_path(folder: Path, board: Board, suffix: str, page: int = 0) -> Path:
    """Where a figure of a config, profile and mode goes; pages after the first are numbered."""
    name = f"{board.config}.{board.profile}.{board.mode}" + (f".{page + 1}" if page else "")
    safe = "".join(letter if letter.isalnum() or letter in "._-" else "-" for letter in name)
    return folder / f"{safe}.{suffix}"


def plot_board(board: Board, curves: Sequence[Curve] | None = None) -> Any:
    """Draw one config and mode.

    Args:
        board: what was measured.
        curves: which of its codecs; all without.

    Returns:
        A matplotlib figure: three panels over bits per feature point, with 95 % intervals.
    """
    whole = board.curves.values() if curves is None else curves
    shown = [curve for curve in whole if curve.points]
    # As many as fit beside one another with the longest of the names.
    longest = max([len(curve.name) for curve in shown], default=0)
    columns = max(1, min(LEGEND_COLUMNS, LEGEND_LETTERS // (longest + 10)))
    lines = math.ceil((len(shown) + 3) / columns)
    figure = new_figure(3 * PANEL[0], PANEL[1] + 0.75 + 0.24 * lines)
    panels = figure.subplots(1, 3)
    row = board.uncoded.row
    chance = {"fidelity": row.get("fidelity_chance"), "score": row.get("chance")}
    for panel, column in zip(panels, (DISTORTION, "fidelity", "score"), strict=True):
        for number, curve in enumerate(shown):
            _draw(panel, curve, column, number)
        if column in chance:
            _level(panel, row.get(column), UNCODED, "-")
            _level(panel, chance[column], CHANCE[column], ":" if column == "score" else "-.")
    _label(panels, row)
    _lossless(panels[0], shown)
    handles = {
        label: handle
        for panel in panels
        for handle, label in zip(*panel.get_legend_handles_labels(), strict=True)
    }
    ordered = [label for label in (*board.curves, UNCODED, *CHANCE.values()) if label in handles]
    figure.legend(
        [handles[label] for label in ordered],
        ordered,
        loc="outside lower center",
        ncols=columns,
        fontsize="small",
        frameon=False,
        handlelength=3,
    )
    note = f" - {MINIATURE_NOTE}" if board.profile == "tiny" else ""
    figure.suptitle(
        f"{board.config}, mode {board.mode}, profile {board.profile}, {row['samples']} samples, "
        f"95 % intervals{note}",
        fontsize="medium",
    )
    return figure


def _draw(panel: Any, curve: Curve, column: str, number: int) -> None:
    found = [
        point.row
        for point in curve.points
        if point.row.get(column) is not None and (column != DISTORTION or point.row[column] > 0)
    ]
    if not found:
        return
    look = {
        "color": COLOURS[number % len(COLOURS)],
        "marker": MARKERS[number % len(MARKERS)],
        "linestyle": DASHES[number % len(DASHES)] if len(found) > 1 else "none",
        "markersize": 5 if len(found) > 1 else 8,
        "markerfacecolor": "white" if number % 2 else COLOURS[number % len(COLOURS)],
    }
    rates, values = ([float(row[name]) for row in found] for name in (RATE, column))
    bars = _bars(found, column, values)
    panel.errorbar(
        rates, values, yerr=bars, label=curve.name, linewidth=1.2, elinewidth=0.8, capsize=2, **look
    )
    if column == DISTORTION and len(found) > 1:
        # In one panel only: there curves lie apart, in the others labels would hide intervals.
        for row, rate, value in zip(found, rates, values, strict=True):
            panel.annotate(
                point_setting(row),
                (rate, value),
                xytext=(3, 2),
                textcoords="offset points",
                fontsize="xx-small",
                color=look["color"],
            )


def _bars(rows: Sequence[Any], column: str, values: Sequence[float]) -> list[list[float]]:
    """Lengths of error bars below and above; none where an end is missing."""
    bars: list[list[float]] = [[], []]
    for row, value in zip(rows, values, strict=True):
        low, high = row.get(f"{column}_low"), row.get(f"{column}_high")
        # A percentile interval need not hold the value itself.
        bars[0].append(0.0 if low is None else max(value - low, 0.0))
        bars[1].append(0.0 if high is None else max(high - value, 0.0))
    return bars


def _level(panel: Any, value: float | None, label: str, dash: str) -> None:
    if value is not None:
        panel.axhline(value, color="0.45", linestyle=dash, linewidth=1, label=label, zorder=0)


def _label(panels: Sequence[Any], row: Any) -> None:
    names = (
        "relative MSE (error energy / energy)",
        f"fidelity to the uncoded model: {row['headline']}",
        f"score: {row['metric'] or 'none'}{UNITS.get(row['metric'], '')}",
    )
    for panel, name in zip(panels, names, strict=True):
        panel.set_xscale("log", base=2)
        panel.xaxis.set_major_formatter("{x:g}")
        panel.set_xlabel("rate (bits per feature point)")
        panel.set_ylabel(name)
        panel.grid(True, color="0.9", linewidth=0.6)
        panel.set_axisbelow(True)
    if panels[0].lines:
        panels[0].set_yscale("log")


def _lossless(panel: Any, curves: Sequence[Curve]) -> None:
    """Put points without an error, which a logarithmic axis has no place for, at its lower edge."""
    edge = panel.get_xaxis_transform()
    labelled: list[float] = []
    for number, curve in enumerate(curves):
        rates = [point.row[RATE] for point in curve.points if point.row.get(DISTORTION) == 0]
        for rate in rates:
            labelled.append(rate)
            colour = COLOURS[number % len(COLOURS)]
            panel.plot(
                [rate],
                [0.02],
                transform=edge,
                clip_on=False,
                color=colour,
                linestyle="none",
                marker=MARKERS[number % len(MARKERS)],
                markersize=8,
                markerfacecolor="white" if number % 2 else colour,
            )
    if labelled:
        panel.annotate(
            "no error",
            (min(labelled), 0.02),
            xycoords=edge,
            xytext=(5, 8),
            textcoords="offset points",
            ha="right",
            fontsize="x-small",
        )
