"""``lamofcbench card``."""

from pathlib import Path

import click

from lamofcbench.cli.output import archive_option

__all__ = ["card"]

SAMPLES = "0:20"


@click.command(
    epilog="Examples: `lamofcbench card arc-llm`, "
    "`lamofcbench card all --out cards --repo org/lamofcbench`"
)
@click.argument("configs", nargs=-1, required=True)
@click.option(
    "--out",
    default="cards",
    show_default=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Where cards, figures and results are, a folder per config.",
)
@click.option("--repo", help="The archive's repository on the Hub, which its own card names.")
@click.option("--figures/--no-figures", default=True, help="Draw the values again.")
@archive_option
def card(
    configs: tuple[str, ...], out: Path, repo: str | None, figures: bool, archive: str
) -> None:
    """Write the cards of CONFIGS, or of all, and the archive's own.

    A card says what a config is, how it was captured, what its values are like, and, from the
    results beside it, what the model scores and what codecs make of it. The archive gets a README
    with the Hub's metadata, and a Croissant description.
    """
    from tqdm import tqdm

    from lamofcbench.archive import list_stores, resolve_archive
    from lamofcbench.card.write import write_archive_card, write_card

    folder = resolve_archive(archive)
    names = sorted(list_stores(folder)) if "all" in configs else list(dict.fromkeys(configs))
    for name in tqdm(names, desc="card", disable=None, leave=False):
        click.echo(str(write_card(folder, name, out / name, SAMPLES if figures else None)))
    for path in write_archive_card(folder, repo):
        click.echo(str(path))
