"""``lamofcbench train``."""

from pathlib import Path

import click

from lamofcbench.cli.output import archive_option, bytes_text

__all__ = ["train"]


@click.command(
    epilog="Examples: `lamofcbench train hyperprior:n=16,m=24 arc-llm --lmbda 0.01 "
    "--out h.safetensors`, then `lamofcbench bench arc-llm --codec hyperprior@h.safetensors "
    "--out r.json`"
)
@click.argument("codec")
@click.argument("configs", nargs=-1, required=True)
@click.option("--out", required=True, type=click.Path(dir_okay=False, path_type=Path))
@click.option("--steps", default=2000, show_default=True, help="Of the optimiser.")
@click.option(
    "--lmbda", default=0.01, show_default=True, help="What squared error of 0..255 costs in bits."
)
@click.option("--seed", default=0, show_default=True, help="Of weights, patches and noise.")
@click.option("--batch", default=8, show_default=True, help="Patches a step.")
@click.option("--patch", default=64, show_default=True, help="Side of a patch, n times 64.")
@click.option("--mode", help="Whose keys, or all; by default each config's first mode.")
@click.option("--profile", help="Which weights' features; by default full before x before tiny.")
@archive_option
def train(codec: str, configs: tuple[str, ...], out: Path, **more: object) -> None:
    """Train the network of CODEC on the train split of CONFIGS, from random weights.

    CODEC may have parameters, such as hyperprior:n=16,m=24. The same request gives the same
    artefact, on one thread.
    """
    from tqdm import tqdm

    from lamofcbench.bench.train import TrainRequest, train_codec
    from lamofcbench.codecs import parse_codec

    request = TrainRequest(configs, **more)  # type: ignore[arg-type]
    with tqdm(total=request.steps, desc="train", disable=None, leave=False) as bar:

        def step(loss: float) -> None:
            bar.set_postfix(loss=f"{loss:.3f}", refresh=False)
            bar.update()

        artefact = train_codec(parse_codec(codec), request, step)
    artefact.save(out)
    click.echo(f"{out}: {bytes_text(len(artefact.data))}, sha256 {artefact.sha256.hex()}")
