"""``lamofcbench calibrate``."""

from pathlib import Path

import click

from lamofcbench.cli.output import archive_option, bytes_text
from lamofcbench.errors import SampleError

__all__ = ["calibrate"]


@click.command(
    epilog="Examples: `lamofcbench calibrate arc-llm --codec kmeans:bits=8 --out k.safetensors`, "
    "`lamofcbench calibrate arc-llm --codec reference --fit family --checkpoint h.pth.tar "
    "--out r.safetensors`"
)
@click.argument("config")
@click.option("--codec", "spec", required=True, help="Name and parameters: kmeans:bits=8.")
@click.option("--out", required=True, type=click.Path(dir_okay=False, path_type=Path))
@click.option(
    "--fit", default="own", show_default=True, help="own: CONFIG's samples; family: one for all."
)
@click.option("--mode", help="Whose keys, or all; by default the config's first mode.")
@click.option(
    "--checkpoint",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Weights of a network that was trained elsewhere, for a codec that is trained.",
)
@click.option("--profile", help="Which weights' features; by default full before x before tiny.")
@archive_option
def calibrate(
    config: str,
    spec: str,
    out: Path,
    fit: str,
    mode: str | None,
    profile: str | None,
    archive: str,
    checkpoint: Path | None,
) -> None:
    """Fit what a codec's decoder must hold to the calibration samples of CONFIG."""
    from lamofcbench.bench.fits import fit_codec
    from lamofcbench.codecs import parse_codec

    codec = parse_codec(spec)
    if checkpoint is not None:
        from lamofcbench.codecs.learned.base import Learned
        from lamofcbench.codecs.learned.checkpoint import load_checkpoint

        if not isinstance(codec, Learned):
            raise SampleError(f"{codec.name} is no network: leave out --checkpoint")
        load_checkpoint(codec, checkpoint)
    artefact = fit_codec(codec, fit, archive, config, profile, mode)
    artefact.save(out)
    click.echo(f"{out}: {bytes_text(len(artefact.data))}, sha256 {artefact.sha256.hex()}")
