"""``lamofcbench compare``."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from lamofcbench.cli.output import json_option, print_json, print_table

__all__ = ["compare"]


def _rate(found: dict[str, Any], notes: list[str]) -> str:
    if found["rate"] is None:
        return f"- {_note(found['reason'], notes)}"
    low, high = ("..." if found[end] is None else f"{found[end]:.3f}" for end in ("low", "high"))
    return f"{found['rate']:.3f} [{low}, {high}]"


def _delta(row: dict[str, Any], name: str, notes: list[str]) -> str:
    if row[name] is None:
        return f"- {_note(row[f'{name}_reason'], notes)}"
    return f"{row[name]:+.1f} %"


def _note(reason: str, notes: list[str]) -> str:
    """Number a reason, the same one once, for it would make the table too wide."""
    if reason not in notes:
        notes.append(reason)
    return f"({notes.index(reason) + 1})"


def _print(title: str, titles: Sequence[str], rows: Sequence[dict[str, Any]]) -> None:
    first = rows[0]
    notes: list[str] = []
    deltas = ("bd_fidelity", "bd_mse") if "anchor" in first else ()
    click.echo(f"{title}: {first['samples']} samples, {first['rate']} in bits per feature point")
    table = [
        [
            row["codec"],
            row["points"],
            *(_rate(found, notes) for found in row["targets"].values()),
            *(_delta(row, name, notes) for name in deltas),
        ]
        for row in rows
    ]
    named = {"bd_fidelity": "BD fidelity", "bd_mse": "BD MSE"}
    print_table(["codec", "points", *titles, *(named[name] for name in deltas)], table)
    if deltas:
        click.echo(f"BD rates are against {first['anchor']}")
    for number, reason in enumerate(notes):
        click.echo(f"({number + 1}) {reason}")


@click.command(
    epilog="Examples: `lamofcbench compare r.json --anchor uniform`, "
    "`lamofcbench compare mine.json theirs.json --anchor input:format=jpeg --json`"
)
@click.argument(
    "results",
    nargs=-1,
    required=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
)
@click.option("--anchor", help="The codec that delta rates (BD) are to.")
@click.option(
    "--rate",
    default="bpfp",
    show_default=True,
    help="Which column is the rate: bpfp, ebpfp, bpfp_all, bpfp_amortised_100.",
)
@click.option("--seed", default=0, show_default=True, help="Of the bootstrap.")
@json_option
def compare(
    results: tuple[Path, ...], anchor: str | None, rate: str, seed: int, as_json: bool
) -> None:
    """Compare codecs at the rates where they reach fixed targets.

    RESULTS are files of `lamofcbench bench`. Rates at a target are interpolated between points,
    with 95 % intervals over samples; what no points bracket is left open, with the reason.
    """
    from lamofcbench.bench.compare import compare_board, targets
    from lamofcbench.bench.curves import find_anchor, read_boards

    boards = read_boards(results)
    if anchor is not None:
        find_anchor(boards, anchor)
    compared = [(board, compare_board(board, anchor, rate=rate, seed=seed)) for board in boards]
    if as_json:
        print_json({"rows": [row for _, rows in compared for row in rows]})
        return
    printed = False
    for board, rows in compared:
        if not rows:
            continue
        if printed:
            click.echo()
        _print(board.title, [target.title for target in targets(board)], rows)
        printed = True
    if not printed:
        click.echo("No codecs in these results: run `lamofcbench bench`")
