"""``lamofcbench plot``."""

from pathlib import Path

import click

from lamofcbench.cli.output import archive_option

__all__ = ["plot"]


@click.command(
    epilog="Examples: `lamofcbench plot r.json --out figures`, "
    "`lamofcbench plot --features arc-llm --out figures --format svg`"
)
@click.argument("results", nargs=-1, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--out", required=True, type=click.Path(file_okay=False, path_type=Path))
@click.option("--features", multiple=True, help="A config whose values to draw: a histogram a key.")
@click.option(
    "--format",
    "suffix",
    default="png",
    show_default=True,
    type=click.Choice(("png", "svg", "pdf")),
)
@click.option("--profile", help="Of --features; by default full before x before tiny.")
@click.option(
    "--samples",
    default="0:20",
    show_default=True,
    help="Of --features: positions in the test split.",
)
@archive_option
def plot(
    results: tuple[Path, ...],
    out: Path,
    features: tuple[str, ...],
    suffix: str,
    profile: str | None,
    samples: str,
    archive: str,
) -> None:
    """Draw RESULTS of `lamofcbench bench`: a figure for every config and mode.

    Its panels show rate against distortion, fidelity and score, with 95 % intervals. Several files
    go into the same figures; many codecs are shared out among several.
    """
    from tqdm import tqdm

    from lamofcbench.bench.curves import read_boards
    from lamofcbench.bench.figures import figure_path, pages, plot_board, save_figure
    from lamofcbench.bench.histograms import plot_features

    if not results and not features:
        raise click.UsageError("name results files, or a config with --features")
    boards = [board for board in read_boards(results) if board.curves]
    paths = []
    with tqdm(total=len(boards) + len(features), desc="plot", disable=None, leave=False) as bar:
        for board in boards:
            for page, curves in enumerate(pages(board)):
                paths.append(figure_path(out, board, suffix, page))
                save_figure(plot_board(board, curves), paths[-1])
            bar.update()
        for config in features:
            figure, found = plot_features(archive, config, profile, samples)
            paths.append(out / f"{config}.{found}.features.{suffix}")
            save_figure(figure, paths[-1])
            bar.update()
    for path in paths:
        click.echo(str(path))
    if not paths:
        click.echo("No codecs in these results: run `lamofcbench bench`")
