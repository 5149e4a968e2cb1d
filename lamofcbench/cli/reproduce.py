"""``lamofcbench reproduce``."""

import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lamofcbench.cli.output import json_option, print_json, print_table

if TYPE_CHECKING:
    from lamofcbench.bench.reproduce import Compared, Reproduction

__all__ = ["reproduce"]


def _compared(one: "Compared") -> dict[str, Any]:
    def plain(value: Any) -> Any:
        return None if isinstance(value, float) and not math.isfinite(value) else value

    return {
        "tensor": one.where or None,
        "figure": one.figure,
        "said": plain(one.said),
        "found": plain(one.found),
        "deviation": plain(one.deviation),
    }


def _report(found: "Reproduction", tolerance: float) -> dict[str, Any]:
    from lamofcbench.bench.reproduce import UNCHECKED

    deviations = [
        {"sample": file.sample, **_compared(one)}
        for file in found.files
        for one in file.deviating(tolerance)
    ]
    return {
        "config": found.config,
        "ok": not deviations,
        "tolerance": tolerance,
        "means": {
            name: {"said": said, "found": now} for name, (said, now) in found.means().items()
        },
        "deviations": deviations,
        "files": [
            {
                "sample": file.sample,
                "file": str(file.path),
                "figures": [_compared(one) for one in file.figures],
            }
            for file in found.files
        ],
        "not_coded": found.not_coded,
        "unchecked": list(UNCHECKED),
    }


def _text(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else "-" if value is None else str(value)


@click.command(
    epilog="Examples: `lamofcbench reproduce release coded --config arc-llm`, "
    "`lamofcbench reproduce archive coded --config in1k-vit --json`"
)
@click.argument("raw", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("coded", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--config", required=True, help="Whose files they are.")
@click.option("--profile", help="Whose tensors: full, tiny or x-<slug>; by default full.")
@click.option(
    "--tolerance",
    type=click.FloatRange(0),
    default=0.005,
    show_default=True,
    help="Relative deviation that passes.",
)
@json_option
def reproduce(
    raw: Path, coded: Path, config: str, profile: str | None, tolerance: float, as_json: bool
) -> None:
    """Compute the figures of the reference's files after coding again.

    RAW is an archive, or a folder of raw files; CODED a folder of files after coding, of the same
    names. BPFP, EBPFP and MSE are those of the reference's accounting, from the bytes that each
    file says its tensors took and from the tensors themselves. Exits with 1, listing them, if any
    figure deviates.
    """
    from tqdm import tqdm

    from lamofcbench.bench.reproduce import reproduce as run

    with tqdm(desc="reproduce", disable=None, leave=False) as bar:

        def start(total: int) -> Any:
            bar.reset(total)
            return bar.update

        report = _report(run(raw, coded, config, profile, start), tolerance)
    if as_json:
        print_json(report)
    else:
        _print(report)
    if not report["ok"]:
        sys.exit(1)


def _print(report: dict[str, Any]) -> None:
    click.echo(f"{report['config']}: {len(report['files'])} files")
    rows = []
    for file in report["files"]:
        whole = [one for one in file["figures"] if one["tensor"] is None]
        rows.append([file["sample"], *(_text(one[n]) for one in whole for n in ("said", "found"))])
    means = report["means"].values()
    rows.append(["mean", *(_text(one[name]) for one in means for name in ("said", "found"))])
    header = [f"{name} {kind}" for name in report["means"] for kind in ("said", "found")]
    print_table(["sample", *header], rows)
    for one in report["deviations"]:
        off = "-" if one["deviation"] is None else f"{100 * one['deviation']:.2f} %"
        place = f"{one['sample']}, {one['tensor'] or 'whole file'}"
        click.echo(
            f"deviates: {place}: {one['figure']} said {_text(one['said'])}, "
            f"found {_text(one['found'])} ({off})"
        )
    if report["not_coded"]:
        click.echo(f"{len(report['not_coded'])} raw samples have no file after coding")
    click.echo(f"the files don't tell {', '.join(report['unchecked'])}")
