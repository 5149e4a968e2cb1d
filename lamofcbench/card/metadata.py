"""The YAML at the head of a data set's card, by which the Hub shows its sample tables."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import DatasetCardData

from lamofcbench.archive import list_stores
from lamofcbench.manifest import Manifest, load_manifest
from lamofcbench.store.tables import table_path

__all__ = ["card_header", "finished_stores", "hub_metadata"]

SIZES = (1_000, 10_000, 100_000, 1_000_000)
TAGS = ("feature-coding", "feature-compression", "split-inference", "kv-cache")
LICENCES = ("apache-2.0", "mit", "cc-by-4.0", "cc-by-sa-4.0")
"""Of those that the Hub has names for, the ones that occur here."""


def finished_stores(archive: Path) -> dict[str, list[Manifest]]:
    """Manifests of an archive's finished stores by config, in the order of preference."""
    found: dict[str, list[Manifest]] = {}
    for config, profiles in list_stores(archive).items():
        for profile in profiles:
            try:
                manifest = load_manifest(archive / config / profile)
            except FileNotFoundError:
                continue
            found.setdefault(config, []).append(manifest)
    return found


def _size(count: int) -> str:
    for at, limit in enumerate(SIZES):
        if count < limit:
            low = f"{SIZES[at - 1] // 1000}K" if at else ""
            high = f"{limit // 1000}K" if limit < 1_000_000 else "1M"
            return f"{low}<n<{high}" if low else f"n<{high}"
    return "n>1M"


def _tables(manifests: Sequence[Manifest], prefix: str) -> list[dict[str, Any]]:
    """An entry for each profile of a config; the preferred one has the config's own name."""
    entries = []
    for place, manifest in enumerate(manifests):
        folder = f"{prefix}{manifest.config}/{manifest.profile}"
        entries.append(
            {
                "config_name": manifest.config + (f"-{manifest.profile}" if place else ""),
                # Readers' caches look at names alone: another content must have another entry.
                "description": f"sha256 {manifest.content_hash}",
                "data_files": [
                    {"split": split, "path": f"{folder}/{table_path(split)}"}
                    for split in manifest.splits
                ],
            }
        )
    return entries


def _licence(names: Iterable[str]) -> dict[str, Any]:
    known = {name.lower() for name in names}
    if known <= set(LICENCES):
        return {"license": sorted(known) if len(known) > 1 else next(iter(known))}
    return {"license": "other", "license_name": "of-each-model-and-data-set"}


def hub_metadata(stores: Mapping[str, Sequence[Manifest]], prefix: str = "") -> DatasetCardData:
    """Describe stores as the Hub reads it.

    Args:
        stores: manifests by config, the preferred profile first.
        prefix: where the archive lies, seen from the card, such as ``miniature/``.
    """
    every = [manifest for manifests in stores.values() for manifest in manifests]
    licences = [licence for m in every for licence in (m.model.licence, m.source.licence)]
    return DatasetCardData(
        pretty_name="lamofcbench: intermediate features of large models",
        size_categories=_size(sum(manifest.samples for manifest in every)),
        tags=[*TAGS, *sorted({manifest.model.family for manifest in every})],
        configs=[entry for manifests in stores.values() for entry in _tables(manifests, prefix)],
        **_licence(licences),
    )


def card_header(stores: Mapping[str, Sequence[Manifest]], prefix: str = "") -> str:
    """That description as the head of a README; see `hub_metadata`."""
    return f"---\n{hub_metadata(stores, prefix).to_yaml()}\n---\n"
