"""``lamofcbench bench``."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from lamofcbench.cli.output import archive_option, json_option, print_json, print_table

__all__ = ["bench"]


def _print(rows: Sequence[dict[str, Any]]) -> None:
    def text(row: dict[str, Any], name: str, digits: int = 3) -> str:
        return "-" if row.get(name) is None else f"{row[name]:.{digits}f}"

    print_table(
        ["config", "mode", "codec", "bpfp", "ratio", "rel mse", "score", "headline", "fidelity"],
        [
            [
                row["config"],
                row["mode"],
                row["point"],
                text(row, "bpfp"),
                text(row, "ratio", 2),
                text(row, "rel_mse", 5),
                text(row, "score"),
                row["headline"],
                text(row, "fidelity"),
            ]
            for row in rows
        ],
    )


@click.command(
    epilog="Examples: `lamofcbench bench arc-llm --codec zstd --codec channel:bits=4 --out r.json`"
)
@click.argument("configs", nargs=-1, required=True)
@click.option(
    "--codec",
    "codecs",
    multiple=True,
    required=True,
    help="Name and parameters: channel:bits=4; of one that is trained, elic@ARTEFACT.",
)
@click.option(
    "--fit",
    "fits",
    multiple=True,
    default=("own", "family"),
    show_default=True,
    help="To what codecs that are fitted are: own, or family.",
)
@click.option("--out", required=True, type=click.Path(dir_okay=False, path_type=Path))
@click.option("--mode", help="Whose keys are coded, or all; by default a config's first mode.")
@click.option("--profile", help="Which weights; by default full before x before tiny.")
@click.option("--samples", help="Positions within the test split, such as 0:20; by default all.")
@click.option("--seed", default=0, show_default=True, help="Of the bootstrap.")
@click.option("--device", default="cpu", show_default=True, help="Where the model runs.")
@click.option(
    "--workers", default=os.cpu_count() or 1, show_default=True, help="Configs at a time."
)
@archive_option
@json_option
def bench(
    configs: tuple[str, ...],
    codecs: tuple[str, ...],
    fits: tuple[str, ...],
    out: Path,
    mode: str | None,
    workers: int,
    archive: str,
    as_json: bool,
    **more: Any,
) -> None:
    """Run codecs over the features of CONFIGS, or of all, and say what they cost and keep.

    Rates are lengths of real bitstreams; score and fidelity come from what is decoded of them. A
    run that is stopped goes on where it was.
    """
    from tqdm import tqdm

    from lamofcbench.bench.board import BenchRequest, run_board
    from lamofcbench.bench.select import configs_and_modes
    from lamofcbench.codecs import load_codec

    for text in codecs:
        load_codec(text)
    chosen = configs_and_modes(configs, mode, archive, more["profile"])
    requests = [BenchRequest(config, codecs, fits, one, archive, **more) for config, one in chosen]
    with tqdm(total=len(requests), desc="bench", disable=None, leave=False) as bar:
        rows = run_board(requests, out, workers, bar.update)
    if as_json:
        print_json({"rows": rows})
    else:
        _print(rows)
