"""``lamofcbench decode``."""

from pathlib import Path

import click

__all__ = ["decode"]


@click.command(
    epilog="Examples: `lamofcbench decode coded --out decoded`, "
    "then `lamofcbench score arc-llm --features decoded`"
)
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option(
    "--artefact",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="What the codec was fitted to, if it needs it.",
)
@click.option("--out", required=True, type=click.Path(file_okay=False, path_type=Path))
def decode(folder: Path, artefact: Path | None, out: Path) -> None:
    """Decode the bitstreams in FOLDER into one safetensors file a sample.

    Needs the files alone: no archive, no model.
    """
    from tqdm import tqdm

    from lamofcbench.bench.files import decode_folder
    from lamofcbench.codecs.artefact import Artefact

    held = None if artefact is None else Artefact.load(artefact)
    with tqdm(desc="decode", disable=None, leave=False) as bar:
        count = decode_folder(folder, out, held, bar.update)
    click.echo(f"{count} samples in {out}")
