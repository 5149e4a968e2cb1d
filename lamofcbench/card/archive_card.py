"""The card of a whole archive: every config in one table, and how to load them."""

from collections.abc import Mapping, Sequence

from lamofcbench.card.markdown import code, size, table
from lamofcbench.card.metadata import card_header
from lamofcbench.manifest import Manifest

__all__ = ["archive_text"]

INTRODUCTION = (
    "Large models run split between devices: hidden states, KV caches, state-space states and "
    "latents cross the split, and must be compressed. This archive holds such features, as sharded "
    "Zarr v3 stores with manifests and checksums, for people who build codecs for them. The viewer "
    "shows the sample tables; features are read as below."
)


def archive_text(stores: Mapping[str, Sequence[Manifest]], name: str) -> str:
    """Write an archive's card.

    Args:
        stores: manifests by config, the preferred profile first; at least one.
        name: what loaders call the archive: a folder, or ``org/name`` on the Hub.

    Returns:
        Markdown, with the Hub's metadata at its head.
    """
    manifests = [manifest for found in stores.values() for manifest in found]
    rows = [
        [
            f"`{m.config}`",
            m.profile,
            m.title,
            f"`{m.model.id}`",
            f"`{m.source.id}`",
            f"{m.totals.samples - m.totals.skipped}",
            len(m.keys),
            size(m.totals.bytes),
            f"{m.model.licence}; {m.source.licence}",
        ]
        for m in manifests
    ]
    titles = ["config", "profile", "", "model", "data", "samples", "tensors", "stored", "licences"]
    first = manifests[0]
    lines = [
        "from lamofcbench import load_dataset",
        "",
        f'dataset = load_dataset("{name}", "{first.config}")',
        'features = dataset[0]["features"]  # a torch tensor per key',
    ]
    parts = [
        card_header(stores),
        "# lamofcbench: intermediate features of large models",
        INTRODUCTION,
        table(titles, rows),
    ]
    if any(m.profile == "tiny" for m in manifests):
        parts.append(
            "Profile `tiny` comes from miniatures, which validate pipelines; it is not evidence "
            "about large models."
        )
    parts += ["## How to load", code("python", "\n".join(lines))]
    return "\n\n".join(parts) + "\n"
