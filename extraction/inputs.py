"""``python -m extraction.inputs CONFIG``: raw inputs in files, for the bench's anchor."""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
from tqdm import tqdm

from extraction.sources import SOURCES
from extraction.sources.base import Source, SourceSample
from lamofcbench.bench.input_files import write_inputs
from lamofcbench.cli import run
from lamofcbench.errors import SampleError
from lamofcbench.models.control import decode_image
from lamofcbench.sampling import select_positions
from lamofcbench.spec import SPLITS, list_configs, load_scenario

__all__ = ["write_config"]


def _part(name: str, value: Any) -> Any:
    """A part as text or an array; files of images are decoded, as the model does."""
    if isinstance(value, str):
        return value
    return (
        decode_image(value) if name == "image" and isinstance(value, bytes) else np.asarray(value)
    )


def _constant(chosen: Sequence[Sequence[SourceSample]]) -> dict[str, str]:
    """Text that is the same in all samples of all splits that are evaluated or calibrated on."""
    constant: dict[str, str] | None = None
    for samples in chosen:
        for sample in samples:
            texts = {n: sample.inputs[n] for n in sample.inputs if n not in ("image", "audio")}
            constant = (
                texts
                if constant is None
                else {n: text for n, text in constant.items() if texts.get(n) == text}
            )
    return constant or {}


def write_config(
    config: str,
    out: Path,
    profile: str = "tiny",
    source: Path | None = None,
    picked: str | None = None,
) -> int:
    """Write the raw inputs of a config's test samples.

    Args:
        config: its name.
        out: the folder of all configs.
        profile: which declaration.
        source: a local copy of the data set, if it needs one.
        picked: positions within the test split; all by default.

    Returns:
        How many samples were written; those that are refused by their source are left out.
    """
    declared = load_scenario(config).profile(profile)
    kind = SOURCES.load(declared.source.name)
    declared = kind.fitted(declared, source)
    opened: Source = kind(declared, source)
    counts = declared.samples.model_dump()
    chosen = {split: opened.select(split, counts[split]) for split in SPLITS if counts[split]}
    tests = chosen["test"]
    positions = select_positions(picked, len(tests), f"split test of {config}")

    def samples() -> Iterator[tuple[str, str, dict[str, Any]]]:
        for position in tqdm(positions, desc=config, disable=None, leave=False):
            sample = tests[position]
            try:
                parts = {name: _part(name, sample.inputs[name]) for name in sample.inputs}
            except SampleError:
                continue
            if parts:
                yield sample.id, sample.sha256, parts

    return write_inputs(out, config, profile, _constant(list(chosen.values())), samples())


@click.command()
@click.argument("configs", nargs=-1, required=True)
@click.option("--out", required=True, type=click.Path(file_okay=False, path_type=Path))
@click.option("--profile", default="tiny", show_default=True, help="Which declaration.")
@click.option("--source", type=click.Path(path_type=Path), help="A local copy of the data set.")
@click.option("--samples", help="Positions within the test split, such as 0:20; by default all.")
def main(
    configs: tuple[str, ...], out: Path, profile: str, source: Path | None, samples: str | None
) -> None:
    """Write the raw inputs of CONFIGS, or of all, for `lamofcbench bench --inputs OUT`."""
    for config in list_configs() if list(configs) == ["all"] else configs:
        count = write_config(config, out, profile, source, samples)
        click.echo(f"{config}: {count} samples in {out / config / profile}")


if __name__ == "__main__":
    sys.exit(run(main))
