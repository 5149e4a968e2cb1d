"""A builder for Hugging Face `datasets` over an archive.

Arrow has no bfloat16, and lets only a first axis vary: bfloat16 becomes float32, exactly, and a
ragged axis comes first, so that a cache [head, token, dim] is [token, head, dim]. What was built is
kept under a digest of the store, since `datasets`' own cache looks at names alone.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import torch
from datasets.data_files import DataFilesDict
from datasets.load import BuilderConfigsParameters, DatasetModule

from lamofcbench.archive import DEFAULT_ARCHIVE, find_store, list_stores, resolve_archive
from lamofcbench.dataset import FeatureDataset, load_dataset
from lamofcbench.errors import SelectionError
from lamofcbench.layout import ArrayLayout
from lamofcbench.spec import list_configs

__all__ = ["ArchiveBuilder", "ArchiveConfig", "describe"]

REFERENCE = {
    "int64": datasets.Value("int64"),
    "float64": datasets.Value("float64"),
    "string": datasets.Value("string"),
    "list<string>": datasets.List(datasets.Value("string")),
}
STATE = ("manifest.json.sha256", "pulled.json")
"""Files that say what a finished store holds."""
MOST_AXES = 5


@dataclass
class ArchiveConfig(datasets.BuilderConfig):  # type: ignore[misc]
    """One config of an archive.

    Attributes:
        profile: as for `load_dataset`.
        tensors: as for `load_dataset`.
    """

    profile: str | None = None
    tensors: Sequence[str] | str | None = None

    def open(self, split: str = "test") -> FeatureDataset:
        """Load a split; ``data_dir`` is the archive."""
        archive = self.data_dir or DEFAULT_ARCHIVE
        return load_dataset(
            archive, self.name, profile=self.profile, split=split, tensors=self.tensors
        )

    def create_config_id(self, *args: Any, **kwargs: Any) -> str:
        """What a built data set is kept under: the usual, and a digest of the store."""
        store = find_store(
            resolve_archive(self.data_dir or DEFAULT_ARCHIVE), self.name, self.profile
        )
        usual = super().create_config_id(*args, **kwargs)
        return f"{usual}-{_digest(store)}"


class ArchiveBuilder(datasets.GeneratorBasedBuilder):  # type: ignore[misc]
    """Rows of samples: id, index, a column per tensor, ``context/…`` and ``reference/…``."""

    BUILDER_CONFIG_CLASS = ArchiveConfig
    # Rows are large: so many are held in memory before they are written.
    DEFAULT_WRITER_BATCH_SIZE = 16

    def _info(self) -> Any:
        dataset = self.config.open(next(iter(_splits(self.config))))
        manifest = dataset.manifest
        layouts = {
            path: layout
            for path, layout in manifest.layouts.items()
            if "/" in path or path in dataset.keys
        }
        columns = {"id": datasets.Value("string"), "index": datasets.Value("int64")}
        columns |= {path: _feature(layout) for path, layout in layouts.items()}
        columns |= {
            f"reference/{name}": REFERENCE[kind]
            for name, kind in manifest.declaration.reference.items()
        }
        licences = f"{manifest.model.licence}; {manifest.source.licence}"
        return datasets.DatasetInfo(
            description=manifest.title, features=datasets.Features(columns), license=licences
        )

    def _split_generators(self, dl_manager: Any) -> list[Any]:
        return [
            datasets.SplitGenerator(name=split, gen_kwargs={"split": split})
            for split in _splits(self.config)
        ]

    def _generate_examples(self, split: str) -> Iterator[tuple[int, dict[str, Any]]]:
        dataset = self.config.open(split)
        layouts = dataset.manifest.layouts
        for item in dataset:
            row = {"id": item["id"], "index": item["index"], **item["features"]}
            row |= {f"context/{name}": value for name, value in item["context"].items()}
            row |= {f"reference/{name}": value for name, value in item["reference"].items()}
            yield (
                item["index"],
                {
                    name: _array(value, layouts[name]) if name in layouts else value
                    for name, value in row.items()
                },
            )


def describe(data_dir: str | None, data_files: Any) -> Any:
    """What `datasets` asks of a builder: where it is, and its configs.

    Args:
        data_dir: the archive, as for `load_dataset`; the default one without it.
        data_files: must be None.

    Raises:
        SelectionError: data files are given.
        ArchiveNotFoundError: there is no archive.
    """
    if data_files is not None:
        raise SelectionError(
            "an archive has no data_files: name another one with data_dir=, "
            "samples with split='test[:10]' and tensors with tensors=[…]"
        )
    stores = list_stores(resolve_archive(data_dir or DEFAULT_ARCHIVE))
    # Those that an archive lacks are named too: asked for, they say how they are made.
    names = sorted({*list_configs(), *stores})
    configs = [ArchiveConfig(name=name, data_files=DataFilesDict()) for name in names]
    return DatasetModule(
        __name__,
        "",
        {"dataset_name": DEFAULT_ARCHIVE},
        BuilderConfigsParameters(builder_configs=configs),
    )


def _splits(config: ArchiveConfig) -> list[str]:
    return list(config.open("test").manifest.splits)


def _digest(store: Path) -> str:
    """Of all that says what a store holds; an unfinished one is what it has recorded."""
    found = [store / name for name in STATE] + sorted((store / ".work").glob("*.json"))
    digest = hashlib.sha256()
    for path in found:
        if path.is_file():
            digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:16]


def _feature(layout: ArrayLayout) -> Any:
    """The column of an array."""
    kind = "float32" if layout.captured == "bfloat16" else layout.captured
    sizes: list[int | None] = [layout.shape[1 + place] for place in layout.native_order]
    if (lead := _ragged(layout)) is not None:
        sizes.pop(lead)
        sizes.insert(0, None)
    if len(sizes) > MOST_AXES:
        raise SelectionError(f"{layout.path}: datasets has no arrays of {len(sizes)} axes")
    if not sizes:
        return datasets.Value(kind)
    if len(sizes) == 1:
        length = -1 if sizes[0] is None else sizes[0]
        return datasets.List(datasets.Value(kind), length=length)
    return getattr(datasets, f"Array{len(sizes)}D")(tuple(sizes), kind)


def _ragged(layout: ArrayLayout) -> int | None:
    """Where the ragged axis is in the model's own order."""
    return None if layout.ragged_index is None else layout.native_order.index(layout.ragged_index)


def _array(value: torch.Tensor, layout: ArrayLayout) -> Any:
    """An array as its column holds it."""
    wide = value.float() if value.dtype == torch.bfloat16 else value
    array = wide.numpy()
    if (lead := _ragged(layout)) is not None:
        array = np.moveaxis(array, lead, 0)
    return np.ascontiguousarray(array) if array.ndim else array.item()
