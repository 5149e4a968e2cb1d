"""``lamofcbench score``."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from lamofcbench.cli.output import archive_option, json_option, print_json, print_table

__all__ = ["score"]


def _text(row: dict[str, Any], name: str) -> str:
    if row.get(name) is None:
        return "-"
    return f"{row[name]:.3f} [{row[f'{name}_low']:.3f}, {row[f'{name}_high']:.3f}]"


def _print(rows: Sequence[dict[str, Any]], others: Sequence[str]) -> None:
    first = rows[0]
    chance = "-" if first["chance"] is None else f"{first['chance']:.3f}"
    click.echo(
        f"{first['config']}, profile {first['profile']}, mode {first['mode']}: "
        f"{first['samples']} samples, chance {chance}, 95 % intervals"
    )
    if first["no_score"]:
        click.echo(f"no score: {first['no_score']}")
    print_table(
        ["point", first["metric"] or "score", "loss", first["headline"], *others],
        [
            [
                row["point"] + (" (inert)" if row.get("inert") else ""),
                _text(row, "score"),
                _text(row, "score_loss"),
                _text(row, "fidelity"),
                *("-" if row.get(name) is None else f"{row[name]:.4g}" for name in others),
            ]
            for row in rows
        ],
    )


def _run(requests: Sequence[Any], workers: int) -> list[Any]:
    """Run requests, several at a time if there are several."""
    from tqdm import tqdm

    from lamofcbench.bench.processes import run_all
    from lamofcbench.bench.score_run import score_config

    if workers == 1 or len(requests) == 1:
        done = []
        for request in requests:
            with tqdm(desc=request.config, disable=None, leave=False) as bar:

                def start(total: int, bar: Any = bar) -> Any:
                    bar.reset(total)
                    return bar.update

                done.append(score_config(request, start))
        return done
    with tqdm(total=len(requests), desc="score", disable=None, leave=False) as bar:
        return run_all(score_config, [(request,) for request in requests], workers, bar.update)


@click.command(
    epilog="Examples: `lamofcbench score arc-llm`, "
    "`lamofcbench score in1k-vit --quantise channel:8,4,2 --quantise tensor:8`, "
    "`lamofcbench score vqa-mllm --mode vision --knockout --out results.json`"
)
@click.argument("configs", nargs=-1, required=True)
@click.option("--mode", help="Which keys are injected, or all; by default a config's first mode.")
@click.option("--profile", help="Which weights; by default full before x before tiny.")
@click.option("--samples", help="Positions within the test split, such as 0:20; by default all.")
@click.option(
    "--quantise",
    "quantisers",
    multiple=True,
    metavar="GROUPS:BITS",
    help="Also score features quantised uniformly per channel, token or tensor: channel:8,6,4.",
)
@click.option(
    "--features",
    "folders",
    multiple=True,
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Also score decoded features: a folder with one safetensors file per sample id.",
)
@click.option("--knockout", is_flag=True, help="Also zero each key in turn, and mark inert ones.")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Write results here.")
@click.option("--seed", default=0, show_default=True, help="Of the bootstrap.")
@click.option("--device", default="cpu", show_default=True, help="Where the model runs.")
@click.option("--workers", default=1, show_default=True, help="Configs to score at a time.")
@archive_option
@json_option
def score(
    configs: tuple[str, ...],
    mode: str | None,
    out: Path | None,
    workers: int,
    archive: str,
    as_json: bool,
    **more: Any,
) -> None:
    """Score the stored features of CONFIGS, or of all, through the back halves of their models.

    Prints the score against references and the fidelity to the uncoded model, with intervals;
    with --out also writes them as JSON, and every sample's numbers beside it as Parquet.
    """
    from lamofcbench.bench.results import write_results
    from lamofcbench.bench.score_run import ScoreRequest
    from lamofcbench.bench.select import configs_and_modes

    chosen = configs_and_modes(configs, mode, archive, more["profile"])
    runs = _run([ScoreRequest(config, one, archive, **more) for config, one in chosen], workers)
    rows = [row for run in runs for row in run.rows]
    if out is not None:
        write_results(out, rows, [result for run in runs for result in run.results])
    if as_json:
        print_json({"rows": rows})
        return
    for number, run in enumerate(runs):
        if number:
            click.echo()
        first = run.rows[0]
        shown = {first["metric"], first["headline"]}
        _print(run.rows, [name for name in run.results[0].figures if name not in shown])
