"""``python -m extraction.bundle``: the miniature archive that the wheel carries.

A few test samples of each miniature, copied from an archive and without the other splits, so that
two lines of Python give tensors where there is no network.
"""

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import click

from extraction.request import array_entries, request_sha256
from lamofcbench.archive import BUNDLED, find_store, resolve_archive
from lamofcbench.card.metadata import card_header, finished_stores
from lamofcbench.cli import run
from lamofcbench.cli.output import archive_option, bytes_text, print_table
from lamofcbench.manifest import Draft, Manifest
from lamofcbench.spec import list_configs
from lamofcbench.store.reader import StoreReader
from lamofcbench.store.tables import reference_column
from lamofcbench.store.writer import Sample, StoreWriter

__all__ = ["bundle", "write_readme"]

PROFILE = "tiny"
README = """# Sample tables of the miniature archive

The tables above are those of the few test samples in `miniature/`. The features themselves come
by `lamofcbench.load_dataset`, or by `datasets.load_dataset` after `import lamofcbench`.
"""


def _samples(reader: StoreReader, rows: list[int]) -> Iterator[Sample]:
    draft = reader.state.draft
    for number in rows:
        row = reader.state.rows[number]
        yield Sample(
            row["id"],
            {path: reader.read(path, number) for path in draft.layouts},
            {name: row[reference_column(name)] for name in draft.declaration.reference},
            row["input"],
            row["source_id"],
            row["source_sha256"],
            row["token_ids"],
        )


def bundle(store: Path, out: Path, count: int) -> Manifest:
    """Copy a store's first test samples into a store of their own.

    Args:
        store: a finished one.
        out: the archive to write; what it has of the config is replaced.
        count: how many samples.

    Returns:
        The new store's manifest.
    """
    reader = StoreReader(store)
    draft = reader.state.draft
    declared = draft.declaration
    counts = declared.samples.model_copy(update={"calibration": 0, "test": count, "train": 0})
    profile = declared.model_copy(update={"samples": counts})
    asked = {name: getattr(draft, name) for name in Draft.model_fields}
    changed = {
        "declaration": profile,
        "splits": {"test": count},
        "request_sha256": request_sha256(
            draft.config, draft.profile, profile, draft.model.revision or ""
        ),
        **array_entries(profile, draft.profile, count),
    }
    target = out / draft.config / draft.profile
    shutil.rmtree(target, ignore_errors=True)
    with StoreWriter(target, Draft(**{**asked, **changed})) as writer:
        rows = reader.rows("test")[:count]
        for shard in writer.pending():
            chosen = [rows[place] for place in writer.draft.shard_rows(shard)]
            writer.write_shard(shard, _samples(reader, chosen))
        manifest = writer.finalise()
    if manifest is None:
        raise RuntimeError(f"{target}: not all shards were written")
    return manifest


def write_readme(archive: Path) -> Path:
    """Write what `datasets` reads where the package's folder answers to its name.

    In the repository's root ``datasets.load_dataset("lamofcbench", …)`` finds this folder, unless
    the package is imported first, and then gives the sample tables that this README lists.
    """
    path = archive.parent / "README.md"
    header = card_header(finished_stores(archive), f"{archive.name}/")
    path.write_text(f"{header}\n{README}", "utf-8")
    return path


@click.command()
@archive_option
@click.option(
    "--out", type=click.Path(path_type=Path), default=BUNDLED, help="The archive to write."
)
@click.option("--samples", type=click.IntRange(1), default=3, show_default=True)
def main(archive: str, out: Path, samples: int) -> None:
    """Copy the first test samples of all miniatures into the package."""
    folder = resolve_archive(archive)
    rows = []
    for config in list_configs():
        totals = bundle(find_store(folder, config, PROFILE), out, samples).totals
        rows.append([config, totals.samples, bytes_text(totals.bytes)])
    write_readme(out)
    print_table(["config", "samples", "stored"], rows)


if __name__ == "__main__":
    sys.exit(run(main))
