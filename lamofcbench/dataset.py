"""The loader: a torch data set over one config of an archive."""

import fnmatch
import logging
import os
import re
import warnings
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from torch.utils.data import Dataset

from lamofcbench.archive import DEFAULT_ARCHIVE, find_store, list_stores, resolve_archive
from lamofcbench.errors import (
    ArchiveNotFoundError,
    IncompleteArchiveWarning,
    SelectionError,
    UnknownNameError,
)
from lamofcbench.manifest import Draft
from lamofcbench.sampling import Selection, select_positions
from lamofcbench.spec import list_configs
from lamofcbench.store.reader import StoreReader
from lamofcbench.store.tables import reference_column

__all__ = ["FeatureDataset", "load_dataset"]

logger = logging.getLogger("lamofcbench")

# org/name, as the Hub has it.
REPO = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*", re.ASCII)

Item = dict[str, Any]


class FeatureDataset(Dataset[Item]):
    """Samples of one split of one store.

    Each item is a dict:

    - ``id`` (str) and ``index`` (int, the sample's row in the store);
    - ``features``: a torch tensor per key, in the model's own layout and dtype, no batch axis;
    - ``context``: a torch tensor per name, what the back half needs besides the features;
    - ``reference``: the label or answer, per name;
    - ``lengths``: the sample's length per ragged axis.

    Safe under forked and spawned workers: pickles as its path and selection, opens lazily.
    """

    def __init__(
        self, store: Path, split: str, keys: list[str], rows: list[int], reader: StoreReader
    ) -> None:
        """Use `load_dataset`."""
        self.store = store
        self.split = split
        self.keys = keys
        self._rows = rows
        self._reader = reader

    @property
    def manifest(self) -> Draft:
        """The store's manifest; only what was asked for if the store is unfinished."""
        return self._reader.state.draft

    def axes(self, key: str) -> tuple[str, ...]:
        """Names of the axes of a key's tensors, in the model's own layout.

        Raises:
            UnknownNameError: no such key.
        """
        if key not in self.manifest.keys:
            raise UnknownNameError("tensor", key, self.manifest.keys)
        layout = self.manifest.layouts[key]
        return tuple(layout.axes[1 + i] for i in layout.native_order)

    @property
    def config(self) -> str:
        """The config's name."""
        return self.store.parent.name

    @property
    def profile(self) -> str:
        """Which weights the features come from."""
        return self.store.name

    def __len__(self) -> int:
        """Count the samples."""
        return len(self._rows)

    def __iter__(self) -> Iterator[Item]:
        """Iterate over the samples in order; of a stream, the next ones come meanwhile."""
        return self._reader.each(self._item, self._rows, self._paths)

    def __getitems__(self, positions: Sequence[int]) -> list[Item]:
        """Read a batch, at once where it is streamed; `torch.utils.data.DataLoader` asks for it."""
        rows = [self._rows[position] for position in positions]
        return list(self._reader.each(self._item, rows, self._paths))

    def __getitem__(self, position: int) -> Item:
        """Read one sample.

        Raises:
            IndexError: there is no such sample.
            IntegrityError: a file that it needs is missing or damaged.
        """
        return self._item(self._rows[position])

    @property
    def _paths(self) -> list[str]:
        """Every array that an item holds."""
        draft = self.manifest
        return [
            *self.keys,
            *(f"context/{name}" for name in draft.context),
            *(f"reference/{name}" for name in draft.reference),
        ]

    def _item(self, row: int) -> Item:
        state = self._reader.state
        draft, scalars = state.draft, state.draft.declaration.reference
        arrays, table = self._reader.read_sample(self._paths, row, table=bool(scalars))
        return {
            "id": state.sample_id(row),
            "index": row,
            "features": {key: arrays[key] for key in self.keys},
            "context": {name: arrays[f"context/{name}"] for name in draft.context},
            "reference": {
                **{name: table[reference_column(name)] for name in scalars},
                **{name: arrays[f"reference/{name}"] for name in draft.reference},
            },
            "lengths": state.lengths(row),
        }

    def subset(self, ids: Sequence[str]) -> "FeatureDataset":
        """Choose samples by their ids, in the given order.

        Raises:
            SelectionError: a sample isn't among these.
        """
        rows = {self._reader.state.sample_id(row): row for row in self._rows}
        if missing := [sample for sample in ids if sample not in rows]:
            raise SelectionError(f"{self.store}: split {self.split} has no sample {missing[0]!r}")
        chosen = [rows[sample] for sample in ids]
        return FeatureDataset(self.store, self.split, self.keys, chosen, self._reader)

    def source_sha256(self, position: int) -> str:
        """Hash of the source's bytes that a sample was made of.

        Raises:
            IndexError: there is no such sample.
        """
        return str(self._reader.state.rows[self._rows[position]]["source_sha256"])

    def __repr__(self) -> str:
        """Say which samples of which store these are."""
        whole = "" if self._reader.state.complete else ", unfinished"
        return (
            f"FeatureDataset({self.config!r}, profile={self.profile!r}, split={self.split!r}, "
            f"samples={len(self)}, tensors={len(self.keys)}, store={str(self.store)!r}{whole})"
        )


def load_dataset(
    archive: str | os.PathLike[str] = DEFAULT_ARCHIVE,
    config: str | None = None,
    *,
    profile: str | None = None,
    split: str = "test",
    samples: Selection = None,
    tensors: Iterable[str] | None = None,
    streaming: bool = False,
    revision: str | None = None,
) -> FeatureDataset:
    """Load a config of an archive as a torch data set.

    Args:
        archive: a folder, or ``"lamofcbench"`` for the default archive (see `resolve_archive`);
            with ``streaming``, ``"org/name"`` on the Hub, too.
        config: such as ``"vqa-mllm"``.
        profile: ``tiny``, ``full`` or ``x-<slug>``; by default full before x before tiny.
        split: ``test``, ``calibration`` or ``train``.
        samples: positions within the split: integers, a slice or ``"0:10"``; all by default.
            Skipped samples count as positions but are left out.
        tensors: keys to read, exact or with ``*``; all by default.
        streaming: read from the Hub what is used when it is used, and keep nothing. The archive on
            disk is read as ever. By default, full is tried before tiny; x-profiles must be named.
        revision: branch, tag or commit on the Hub; ``main``, as it is now, by default.

    Returns:
        The data set; reading it checks everything that it reads.

    Raises:
        ArchiveNotFoundError: there is no archive, or it lacks the config.
        UnknownNameError: no such config, profile, split or tensor; near matches are listed.
        SelectionError: ``samples`` reaches beyond the split.
        IntegrityError: the store is damaged.
        HubError: the Hub can't be reached, or refuses.
    """
    if streaming and not Path(archive).is_dir() and REPO.fullmatch(str(archive)):
        if config is None:
            raise UnknownNameError("config", "", list_configs(), "Name one.")
        reader = _open_remote(str(archive), config, profile, revision)
        return _select(reader, config, split, samples, tensors)
    folder = resolve_archive(archive)
    if revision is not None:
        raise ArchiveNotFoundError(
            f"{folder} is a folder and has no revisions; leave out revision={revision!r}, "
            "or name a repository, org/name, with streaming=True"
        )
    stores = list_stores(folder)
    if config is None:
        raise UnknownNameError("config", "", stores or list_configs(), "Name one.")
    store = find_store(folder, config, profile)
    if profile is None and len(stores[config]) > 1:
        logger.warning(
            "%s: using profile %s of %s; pass profile= to choose",
            config,
            store.name,
            ", ".join(stores[config]),
        )
    reader = StoreReader(store)
    state = reader.state
    draft = state.draft
    if not state.complete:
        warnings.warn(
            f"{store} is unfinished: {len(state.shards)} of {draft.shard_count} shards are there",
            IncompleteArchiveWarning,
            stacklevel=2,
        )
    return _select(reader, config, split, samples, tensors)


def _open_remote(repo: str, config: str, profile: str | None, revision: str | None) -> StoreReader:
    # Here, so that who reads from disk needs no HTTP.
    from lamofcbench.hub.stream import open_store

    remote = open_store(repo, config, profile, revision)
    return StoreReader(remote.store, remote)


def _select(
    reader: StoreReader,
    config: str,
    split: str,
    samples: Selection,
    tensors: Iterable[str] | None,
) -> FeatureDataset:
    draft = reader.state.draft
    wanted = draft.split_rows(split)
    readable = set(reader.rows(split))
    chosen = select_positions(samples, len(wanted), f"split {split} of {config}")
    rows = [wanted[position] for position in chosen if wanted[position] in readable]
    keys = _select_keys(tensors, list(draft.keys))
    return FeatureDataset(reader.store, split, keys, rows, reader)


def _select_keys(tensors: Iterable[str] | None, known: list[str]) -> list[str]:
    if tensors is None:
        return known
    if isinstance(tensors, str):
        tensors = [tensors]
    chosen: list[str] = []
    for name in tensors:
        # Only an explicit wildcard matches more than one key: layer.1 is not layer.19.
        matches = fnmatch.filter(known, name) if "*" in name else [k for k in known if k == name]
        if not matches:
            raise UnknownNameError("tensor", name, known)
        chosen += [key for key in matches if key not in chosen]
    return chosen
