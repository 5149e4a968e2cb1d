"""``lamofcbench import``."""

import re
from pathlib import Path
from typing import Any

import click

__all__ = ["import_"]


@click.command(
    "import",
    epilog="Examples: `lamofcbench import release --config arc-llm`, "
    "`lamofcbench import decoded --from yuv --sidecars planes --out features`",
)
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option(
    "--from",
    "origin",
    type=click.Choice(["reference", "yuv"]),
    default="reference",
    show_default=True,
)
@click.option("--config", help="reference: whose files they are.")
@click.option(
    "--profile", default="full", show_default=True, help="reference: full, tiny or x-<slug>."
)
@click.option(
    "--archive",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("archive"),
    show_default=True,
    help="reference: the archive to write to.",
)
@click.option(
    "--calibration",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="reference: how many of the first files become the calibration split.",
)
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), help="yuv: for features.")
@click.option(
    "--sidecars",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="yuv: the exported folder; by default the sidecars lie beside the decoded pictures.",
)
def import_(
    folder: Path,
    origin: str,
    config: str | None,
    profile: str,
    archive: Path,
    calibration: int,
    out: Path | None,
    sidecars: Path | None,
) -> None:
    """Take features from the files in FOLDER.

    From the reference's .zst files (its release, or one config's folder) an archive is made. The
    files have neither references nor context, and the manifest says so: rates and distortions can
    be measured on such an archive, scores cannot.

    From decoded pictures, named as `lamofcbench export --to yuv` named them, features are made as
    `lamofcbench score --features` takes them.
    """
    from tqdm import tqdm

    with tqdm(desc="import", disable=None, leave=False) as bar:

        def start(total: int) -> Any:
            bar.reset(total)
            return bar.update

        if origin == "yuv":
            if out is None:
                raise click.UsageError("say where features go: --out FOLDER")
            from lamofcbench.interop.yuv import import_yuv

            count = import_yuv(folder, out, sidecars, start)
            line = f"{count} samples in {out}"
        else:
            if config is None:
                raise click.UsageError("say whose files they are: --config NAME")
            if not re.fullmatch(r"full|tiny|x-[a-z0-9]+(-[a-z0-9]+)*", profile):
                raise click.UsageError("--profile: full, tiny or x-<slug>")
            from lamofcbench.interop.import_reference import import_reference

            manifest = import_reference(
                folder, config, archive, profile, calibration=calibration, start=start
            )
            lacking = manifest.declaration.preprocess["missing"]
            line = (
                f"{manifest.totals.samples} samples in {archive / config / profile}; "
                f"the files lack {lacking}"
            )
    click.echo(line)
