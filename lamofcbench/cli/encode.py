"""``lamofcbench encode``."""

from pathlib import Path

import click

from lamofcbench.cli.output import archive_option, bytes_text

__all__ = ["encode"]


@click.command(
    epilog="Examples: `lamofcbench encode arc-llm --codec channel:bits=4 --out coded`, "
    "`lamofcbench encode in1k-vit --codec zstd --samples 0:10 --out coded`"
)
@click.argument("config")
@click.option("--codec", "spec", required=True, help="Name and parameters: channel:bits=4.")
@click.option(
    "--artefact",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="What `lamofcbench calibrate` fitted, for a codec that needs it.",
)
@click.option("--out", required=True, type=click.Path(file_okay=False, path_type=Path))
@click.option("--mode", help="Whose keys to code; by default the config's first mode.")
@click.option("--profile", help="Which weights' features; by default full before x before tiny.")
@click.option("--samples", help="Positions within the test split, such as 0:20; by default all.")
@archive_option
def encode(
    config: str,
    spec: str,
    artefact: Path | None,
    out: Path,
    mode: str | None,
    profile: str | None,
    samples: str | None,
    archive: str,
) -> None:
    """Code the features of CONFIG into one self-contained bitstream a sample.

    The size of a file is the sample's rate. Leading tokens that all samples share and constant keys
    are written once, to held.safetensors, since every decoder can hold them.
    """
    from tqdm import tqdm

    from lamofcbench.bench.files import encode_folder
    from lamofcbench.codecs import parse_codec
    from lamofcbench.codecs.artefact import Artefact
    from lamofcbench.dataset import load_dataset

    codec = parse_codec(spec, None if artefact is None else Artefact.load(artefact))
    dataset = load_dataset(archive, config, profile=profile, samples=samples)
    keys = dataset.manifest.declaration.mode(mode).keys
    with tqdm(total=len(dataset), desc="encode", disable=None, leave=False) as bar:
        total = encode_folder(dataset, keys, codec, out, bar.update)
    click.echo(f"{len(dataset)} samples, {bytes_text(total)} in {out}")
