"""``lamofcbench verify``."""

import sys
from pathlib import Path

import click

from lamofcbench.archive import is_store, list_stores, resolve_archive
from lamofcbench.cli.output import bytes_text, json_option, print_json
from lamofcbench.errors import ArchiveNotFoundError

__all__ = ["verify"]


def _stores(path: Path) -> list[Path]:
    """The stores that a path means: an archive's, a config's, or itself."""
    if is_store(path):
        return [path]
    inside = [folder for folder in sorted(path.iterdir()) if is_store(folder)]
    if inside:
        return inside
    found = [path / c / p for c, profiles in list_stores(path).items() for p in profiles]
    if not found:
        raise ArchiveNotFoundError(
            f"{path}: no store here. Name an archive, a config's folder or one store"
        )
    return found


@click.command(
    epilog="Examples: `lamofcbench verify`, `lamofcbench verify archive/vqa-mllm --json`"
)
@click.argument("path", required=False)
@json_option
def verify(path: str | None, as_json: bool) -> None:
    """Check every byte of an archive, a config's folder or one store at PATH.

    Exits with 1, naming the files, if anything is damaged or missing.
    """
    from tqdm import tqdm

    from lamofcbench.store.verify import verify_store

    reports = []
    with tqdm(desc="verify", unit="B", unit_scale=True, disable=None, leave=False) as bar:
        for store in _stores(resolve_archive(path if path is not None else "lamofcbench")):
            reports.append(verify_store(store, bar.update))
    ok = all(not report.findings for report in reports)
    if as_json:
        print_json(
            {
                "ok": ok,
                "stores": [
                    {
                        "store": str(report.store),
                        "ok": not report.findings,
                        "files": report.files,
                        "bytes": report.bytes,
                        "absent": report.absent or None,
                        "findings": [
                            {"path": found.path, "what": found.what} for found in report.findings
                        ],
                    }
                    for report in reports
                ],
            }
        )
    else:
        for report in reports:
            for found in report.findings:
                click.echo(f"{report.store / found.path}: {found.what}")
            whole = "an intact part" if report.absent else "intact"
            state = f"{len(report.findings)} findings" if report.findings else whole
            click.echo(
                f"{report.store}: {state}, {report.files} files, {bytes_text(report.bytes)} checked"
            )
            if report.absent:
                click.echo(f"{report.store}: not here: {report.absent}")
    if not ok:
        sys.exit(1)
