"""``lamofcbench decode``."""

from pathlib import Path

import click

__all__ = ["decode"]


@click.command(
    epilog="Examples: `lamofcbench decode coded --out decoded`, "
    "then `lamofcbench score arc-llm --features decoded`"
)
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--out", required=True, type=click.Path(file_okay=False, path_type=Path))
def decode(folder: Path, out: Path) -> None:
    """Decode the bitstreams in FOLDER into one safetensors file a sample.

    Needs the files alone: no archive, no model.
    """
    from tqdm import tqdm

    from lamofcbench.bench.files import decode_folder

    with tqdm(desc="decode", disable=None, leave=False) as bar:
        count = decode_folder(folder, out, bar.update)
    click.echo(f"{count} samples in {out}")
