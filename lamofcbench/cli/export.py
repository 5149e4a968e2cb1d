"""``lamofcbench export``."""

from pathlib import Path
from typing import Any

import click

from lamofcbench.cli.output import archive_option

__all__ = ["export"]

FORMATS = {
    "reference": "lamofcbench.interop.export_reference:export_reference",
    "hdf5": "lamofcbench.interop.hdf5:export_hdf5",
    "safetensors": "lamofcbench.interop.safetensors:export_safetensors",
    "npy": "lamofcbench.interop.npy:export_npy",
    "yuv": "lamofcbench.interop.yuv:export_yuv",
}

HELP = """Write the features of CONFIG in another format, sample by sample.

\b
reference    the reference's .zst files: <group>/<sample>.zst
hdf5         one file: /features/<key> with /start/<key> and /length/<key>
safetensors  <sample>.safetensors, as `score --features` takes them
npy          <sample>/<key>.npy and sample.json; bfloat16 as uint16
yuv          <sample>/<key>.yuv, one 4:0:0 picture, and <key>.json

With VTM, HM or ECM: size, bits and more are in a picture's JSON file. Encode one picture with
--InputChromaFormat=400 --InputBitDepth=<bits> --InternalBitDepth=<bits> -wdt <width> -hgt
<height> -f 1 -fr 1, decode it with -d <bits> to <sample>/<key>.yuv in another folder, then run
`lamofcbench import DECODED --from yuv --sidecars EXPORTED --out FEATURES` and
`lamofcbench score CONFIG --features FEATURES`. With x265: --input-csp i400 --input-depth <bits>
--input-res <width>x<height> --fps 1 --frames 1.

An export that was interrupted can be asked for again, into the same place.
"""


@click.command(
    help=HELP,
    epilog="Examples: `lamofcbench export arc-llm --to reference --out release`, "
    "`lamofcbench export in1k-vit --to hdf5 --out in1k.h5 --tensors layer.39`, "
    "`lamofcbench export in1k-vit --to yuv --bits 10 --samples 0:10 --out planes`",
)
@click.argument("config")
@click.option("--to", "target", required=True, type=click.Choice(list(FORMATS)))
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder; a file: hdf5.")
@click.option("--samples", help="Positions within the split, such as 0:20; by default all.")
@click.option("--tensors", help="Keys, separated by commas, * for any; by default all.")
@click.option("--profile", help="Which weights; by default full before x before tiny.")
@click.option("--split", default="test", show_default=True, help="Or calibration, or train.")
@click.option("--bits", type=click.Choice(["8", "10", "12", "16"]), help="yuv: 10 by default.")
@click.option(
    "--align", type=click.IntRange(1, 256), help="yuv: sides are multiples of it; 16 by default."
)
@archive_option
def export(
    config: str,
    target: str,
    out: Path,
    samples: str | None,
    tensors: str | None,
    profile: str | None,
    split: str,
    bits: str | None,
    align: int | None,
    archive: str,
) -> None:
    """Write features in another format: see `HELP`."""
    from tqdm import tqdm

    from lamofcbench.dataset import load_dataset
    from lamofcbench.registry import Registry

    more: dict[str, Any] = {}
    if bits is not None:
        more["bits"] = int(bits)
    if align is not None:
        more["align"] = align
    if more and target != "yuv":
        raise click.UsageError("--bits and --align are for --to yuv")
    dataset = load_dataset(
        archive,
        config,
        profile=profile,
        split=split,
        samples=samples,
        tensors=None if tensors is None else tensors.split(","),
    )
    write = Registry("format", FORMATS).load(target)
    with tqdm(total=len(dataset), desc="export", disable=None, leave=False) as bar:
        count = write(dataset, out, bar.update, **more)
    click.echo(f"{count} samples in {out}")
