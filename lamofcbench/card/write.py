"""Writes cards and their figures."""

from pathlib import Path

from lamofcbench import __version__
from lamofcbench.archive import find_store
from lamofcbench.atomic import compact_json, write_bytes
from lamofcbench.bench.figures import save_figure
from lamofcbench.bench.histograms import plot_features
from lamofcbench.card.archive_card import archive_text
from lamofcbench.card.card import CHANNELS, FEATURES, card_text
from lamofcbench.card.channels import plot_channels
from lamofcbench.card.metadata import finished_stores
from lamofcbench.errors import ArchiveNotFoundError
from lamofcbench.interop.croissant import FILE, croissant
from lamofcbench.spec import load_scenario

__all__ = ["write_archive_card", "write_card"]

README = "README.md"
HUB = "https://huggingface.co/datasets"


def write_card(archive: Path, config: str, folder: Path, samples: str | None) -> Path:
    """Write a config's card.

    Args:
        archive: where its stores are; those that are unfinished are left out.
        config: its name.
        folder: the card's, where figures go and results are looked for.
        samples: those that figures are drawn of, as for `load_dataset`; no figures without any.

    Returns:
        The card's path.

    Raises:
        UnknownNameError: no such config.
        ArchiveNotFoundError: the archive lacks it, or it is unfinished.
    """
    find_store(archive, config)
    stores = finished_stores(archive).get(config)
    if not stores:
        raise ArchiveNotFoundError(
            f"{archive}: {config} is unfinished. To finish it: make extract SCENARIO={config}"
        )
    for manifest in stores if samples else ():
        where = (str(archive), config, manifest.profile, samples)
        stem = folder / f"{config}.{manifest.profile}"
        save_figure(plot_features(*where)[0], stem.with_name(f"{stem.name}.{FEATURES}.png"))
        save_figure(plot_channels(*where), stem.with_name(f"{stem.name}.{CHANNELS}.png"))
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / README
    write_bytes(path, card_text(load_scenario(config), archive, stores, folder).encode())
    return path


def write_archive_card(archive: Path, repo: str | None = None) -> list[Path]:
    """Write an archive's own card, and its Croissant description.

    Args:
        archive: its folder.
        repo: its repository on the Hub, if there is one.

    Returns:
        What was written; nothing for an archive without finished stores.
    """
    stores = finished_stores(archive)
    if not stores:
        return []
    url = f"{HUB}/{repo}" if repo else archive.resolve().name
    described = croissant(stores, url, __version__)
    written = {
        archive / README: archive_text(stores, repo or "lamofcbench").encode(),
        archive / FILE: compact_json(described),
    }
    for path, data in written.items():
        write_bytes(path, data)
    return list(written)
