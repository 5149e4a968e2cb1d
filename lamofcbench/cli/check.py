"""``lamofcbench check``."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lamofcbench.cli.output import archive_option, json_option, print_json
from lamofcbench.errors import SampleError

if TYPE_CHECKING:
    from lamofcbench.bench.curves import Result
    from lamofcbench.bench.recheck import Checked

__all__ = ["check"]

Work = list[tuple["Result", Path]]


def _work(results: Sequence["Result"], bitstreams: Path) -> tuple[Work, int]:
    """Pair rows with their folders; and count the rows that have none."""
    from lamofcbench.bench.files import SUFFIX
    from lamofcbench.bench.input_codec import NAME
    from lamofcbench.bench.recheck import bitstream_folder

    coded = [
        result
        for result in results
        if result.row.get("bpfp") is not None and result.row.get("codec") != NAME
    ]
    if any(bitstreams.glob(f"*{SUFFIX}")):
        if len(coded) != 1:
            raise SampleError(
                f"{bitstreams} holds the bitstreams of one row, and {len(coded)} rows are meant: "
                "choose one with --config, --mode and --point"
            )
        return [(coded[0], bitstreams)], 0
    pairs = [(result, bitstream_folder(bitstreams, result.row)) for result in coded]
    found = [(result, folder) for result, folder in pairs if folder is not None]
    if not found:
        raise SampleError(
            f"{bitstreams}: no bitstreams of these rows; they belong in "
            f"{bitstreams}/<config>/<mode>/<point>, as `lamofcbench encode` writes them"
        )
    return found, len(coded) - len(found)


def _report(found: "Checked") -> dict[str, Any]:
    named = {name: found.row[name] for name in ("config", "profile", "mode", "point")}
    return {
        **named,
        "ok": found.ok,
        "error": found.error or None,
        "agree": found.agreeing,
        "differ": [
            {"column": one.column, "said": one.said, "found": one.found} for one in found.differing
        ],
        "unchecked": found.unchecked,
    }


def _print(report: dict[str, Any]) -> None:
    title = f"{report['config']}, {report['mode']}, {report['point']}"
    if report["error"]:
        click.echo(f"{title}: cannot be checked: {report['error']}")
        return
    state = f"{len(report['differ'])} columns differ" if report["differ"] else "agrees"
    left = ", ".join(report["unchecked"])
    click.echo(
        f"{title}: {state}, {len(report['agree'])} columns agree"
        + (f"; bitstreams don't tell {left}" if left else "")
    )
    for one in report["differ"]:
        click.echo(f"  {one['column']}: says {one['said']}, found {one['found']}")


@click.command(
    epilog="Examples: `lamofcbench check r.json --bitstreams coded`, "
    "`lamofcbench check r.json --bitstreams coded --point channel:bits=4 --json`"
)
@click.argument("results", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--bitstreams",
    required=True,
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folders <config>/<mode>/<point> of `lamofcbench encode`, or one of them for one row.",
)
@click.option(
    "--artefacts",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Where the artefacts are that fitted codecs need.",
)
@click.option("--config", help="Check rows of this config alone.")
@click.option("--mode", help="Check rows of this mode alone.")
@click.option("--point", help="Check rows of this point alone, such as channel:bits=4.")
@click.option(
    "--tolerance",
    default=1e-6,
    show_default=True,
    help="Relative difference that scores, fidelities and distortions may have; rates have none.",
)
@click.option("--device", default="cpu", show_default=True, help="Where the model runs.")
@archive_option
@json_option
def check(
    results: Path,
    bitstreams: Path,
    artefacts: Path | None,
    tolerance: float,
    device: str,
    archive: str,
    as_json: bool,
    **chosen: str | None,
) -> None:
    """Check RESULTS that somebody else measured, from the bitstreams.

    Decodes them with the decoders that are installed here, computes rate, distortion, fidelity and
    score again, and says which columns agree. Exits with 1 if any differs.
    """
    from tqdm import tqdm

    from lamofcbench.bench.curves import read_results
    from lamofcbench.bench.recheck import Checker, load_artefacts

    meant = [
        result
        for result in read_results(results)
        if all(value in (None, result.row[name]) for name, value in chosen.items())
    ]
    if not meant:
        asked = ", ".join(f"{name} {value}" for name, value in chosen.items() if value)
        raise SampleError(f"{results}: no rows of {asked}")
    work, left = _work(meant, bitstreams)
    checker = Checker(archive, load_artefacts(artefacts), tolerance, device)
    reports = [
        _report(checker.check(result, folder))
        for result, folder in tqdm(work, desc="check", disable=None, leave=False)
    ]
    ok = all(report["ok"] for report in reports)
    if as_json:
        print_json({"ok": ok, "rows": reports, "without_bitstreams": left})
    else:
        for report in reports:
            _print(report)
        if left:
            click.echo(f"{left} rows have no bitstreams in {bitstreams}, and were not checked")
    if not ok:
        sys.exit(1)
