"""``lamofcbench calibrate``."""

from pathlib import Path

import click

from lamofcbench.cli.output import archive_option, bytes_text

__all__ = ["calibrate"]


@click.command(
    epilog="Examples: `lamofcbench calibrate arc-llm --codec kmeans:bits=8 --out k.safetensors`"
)
@click.argument("config")
@click.option("--codec", "spec", required=True, help="Name and parameters: kmeans:bits=8.")
@click.option("--out", required=True, type=click.Path(dir_okay=False, path_type=Path))
@click.option(
    "--fit", default="own", show_default=True, help="own: CONFIG's samples; family: one for all."
)
@click.option("--mode", help="Whose keys; by default the config's first mode.")
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
) -> None:
    """Fit what a codec's decoder must hold to the calibration samples of CONFIG."""
    from lamofcbench.bench.fits import fit_codec
    from lamofcbench.codecs import parse_codec

    artefact = fit_codec(parse_codec(spec), fit, archive, config, profile, mode)
    artefact.save(out)
    click.echo(f"{out}: {bytes_text(len(artefact.data))}, sha256 {artefact.sha256.hex()}")
