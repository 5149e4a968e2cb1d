"""``lamofcbench bench``."""

import os
import sys
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
@click.option(
    "--inputs",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Raw inputs of `python -m extraction.inputs`, which --codec input:format=jpeg,quality=80 "
    "and its like need: the input coded, then the whole model.",
)
@click.option("--grid", is_flag=True, help="Run all codecs of the project's grid, too.")
@click.option(
    "--out", type=click.Path(dir_okay=False, path_type=Path), help="Write all results here."
)
@click.option(
    "--cards",
    type=click.Path(file_okay=False, path_type=Path),
    help="Or write each config's to <folder>/<config>/results.json.",
)
@click.option("--mode", help="Whose keys are coded, or all; by default a config's first mode.")
@click.option("--profile", help="Which weights; by default full before x before tiny.")
@click.option("--samples", help="Positions within the test split, such as 0:20; by default all.")
@click.option(
    "--target",
    "targets",
    multiple=True,
    metavar="FIGURE=BOUND",
    help="Choose lossy codecs' settings on calibration samples: bpfp=4 or kl=0.01 at most.",
)
@click.option("--time", "timed", is_flag=True, help="Also time codecs; best with --workers 1.")
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
    grid: bool,
    out: Path | None,
    cards: Path | None,
    mode: str | None,
    workers: int,
    targets: tuple[str, ...],
    timed: bool,
    archive: str,
    as_json: bool,
    **more: Any,
) -> None:
    """Run codecs over the features of CONFIGS, or of all, and say what they cost and keep.

    Rates are lengths of real bitstreams; score and fidelity come from what is decoded of them. A
    run that is stopped goes on where it was.
    """
    from tqdm import tqdm

    from lamofcbench.bench.board import run_board
    from lamofcbench.bench.grid import Training, load_grid
    from lamofcbench.bench.input_codec import InputCodec, is_input
    from lamofcbench.bench.plan import BenchRequest
    from lamofcbench.bench.processes import run_all
    from lamofcbench.bench.select import configs_and_modes
    from lamofcbench.bench.targets import parse_target
    from lamofcbench.codecs import load_codec
    from lamofcbench.spec import load_scenario

    if (out is None) == (cards is None):
        raise click.UsageError("say where results go: --out FILE, or --cards FOLDER")
    if not codecs and not grid:
        raise click.UsageError("name codecs with --codec, or run the project's grid with --grid")
    for text in codecs:
        if is_input(text):
            InputCodec.parse(text)
        else:
            load_codec(text)
    for text in targets:
        parse_target(text)
    chosen = configs_and_modes(configs, mode, archive, more["profile"])
    more |= {"targets": targets, "timed": timed}
    artefacts = cards / "artefacts" if cards else Path(out or "").with_suffix(".artefacts")
    trainings: dict[str, list[Training]] = {}
    families = {config: load_scenario(config).family for config, _ in chosen}
    known = load_grid()
    left_out = []
    if grid:
        where = (archive, more["profile"], artefacts)
        trainings = {f: known.trainings(f, *where) for f in dict.fromkeys(families.values())}
        networks = [training for family in trainings.values() for training in family]
        with tqdm(total=len(networks), desc="train", disable=None, leave=False) as bar:
            left_out = run_all(Training.run, [(one,) for one in networks], workers, bar.update)
        left_out = [line for line in left_out if line]
        trainings = {f: [t for t in trainings[f] if t.path.is_file()] for f in trainings}
    requests = []
    for config, one in chosen:
        own, options, family = codecs, dict(more), families[config]
        if grid:
            own += tuple(known.codecs())
            own += tuple(f"{t.codec.partition(':')[0]}@{t.path}" for t in trainings[family])
            own += tuple(known.inputs(family)) if more["inputs"] else ()
            options["tolerant"] = True
            options["samples"] = more["samples"] or known.samples(family)
        path = out or Path(cards or "") / config / "results.json"
        requests.append((BenchRequest(config, own, fits, one, archive, **options), path))
    with tqdm(total=len(requests), desc="bench", disable=None, leave=False) as bar:
        rows, more_left_out = run_board(requests, workers, bar.update)
    if as_json:
        print_json({"rows": rows})
    else:
        _print(rows)
    left_out += more_left_out
    for line in left_out:
        click.echo(f"left out: {line}", err=True)
    if left_out:
        sys.exit(1)
