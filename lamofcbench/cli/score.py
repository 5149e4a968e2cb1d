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
    print_table(
        ["point", first["metric"], "loss", first["headline"], *others],
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


@click.command(
    epilog="Examples: `lamofcbench score arc-llm`, "
    "`lamofcbench score in1k-vit --quantise channel:8,4,2 --quantise tensor:8`, "
    "`lamofcbench score vqa-mllm --mode vision --knockout --out results.json`"
)
@click.argument("config")
@click.option("--mode", help="Which keys are injected; by default the config's first mode.")
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
@archive_option
@json_option
def score(
    config: str,
    mode: str | None,
    profile: str | None,
    samples: str | None,
    quantisers: tuple[str, ...],
    folders: tuple[Path, ...],
    knockout: bool,
    out: Path | None,
    seed: int,
    device: str,
    archive: str,
    as_json: bool,
) -> None:
    """Score CONFIG's stored features through the back half of its model.

    Prints the score against references and the fidelity to the uncoded model, with intervals;
    with --out also writes them as JSON, and every sample's numbers beside it as Parquet.
    """
    from tqdm import tqdm

    from lamofcbench.bench.points import Decoded, Point, parse_quantiser
    from lamofcbench.bench.results import provenance, result_rows, write_results
    from lamofcbench.bench.scoring import evaluate, inert_keys, knockouts, measured
    from lamofcbench.bench.setup import set_up
    from lamofcbench.dataset import load_dataset
    from lamofcbench.metrics.bootstrap import RESAMPLES

    dataset = load_dataset(archive, config, profile=profile, samples=samples)
    spec = dataset.manifest.declaration.mode(mode)
    axes = {key: dataset.axes(key) for key in spec.keys}
    points: list[Point] = [p for text in quantisers for p in parse_quantiser(text, axes)]
    points += [Decoded(folder) for folder in folders]
    if knockout:
        points += knockouts(spec.keys)
    setup = set_up(dataset, mode, device)
    with tqdm(
        total=len(dataset) * (len(points) + 1), desc=config, disable=None, leave=False
    ) as bar:
        results = evaluate(
            dataset,
            setup.family,
            setup.mode,
            points,
            setup.score,
            setup.fidelity,
            inspector=setup.inspector,
            step=bar.update,
        )
    measured(results, setup.score, setup.fidelity, seed=seed)
    rows = result_rows(
        dataset.manifest,
        setup.mode,
        setup.keys,
        results,
        setup.score,
        setup.fidelity,
        setup.chance(dataset),
        provenance=provenance(dataset.manifest, seed, RESAMPLES),
    )
    if knockout:
        zeroed = [result for result in results if result.point.startswith("zeroed:")]
        inert = inert_keys([results[0], *zeroed], setup.fidelity, seed=seed)
        for row in rows:
            kind, _, key = row["point"].partition(":")
            if kind == "zeroed":
                row["inert"] = inert[key]
    if out is not None:
        write_results(out, rows, results, config=config, profile=dataset.profile, mode=setup.mode)
    if as_json:
        print_json({"rows": rows})
        return
    shown = {figure.name for figure in (*setup.score.figures[:1],)} | {rows[0]["headline"]}
    _print(rows, [name for name in results[0].figures if name not in shown])
