"""The loader: a torch data set over one config of an archive."""

import logging
import os
import warnings
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from torch.utils.data import Dataset

from lamofcbench.archive import DEFAULT_ARCHIVE, find_archive, find_store, list_stores
from lamofcbench.errors import (
    ArchiveNotFoundError,
    IncompleteArchiveWarning,
    NotPulledError,
    SelectionError,
    UnknownNameError,
)
from lamofcbench.manifest import Draft
from lamofcbench.sampling import Selection, select_keys, select_positions
from lamofcbench.spec import list_configs
from lamofcbench.store.part import pull_command
from lamofcbench.store.reader import StoreReader
from lamofcbench.store.state import StoreState
from lamofcbench.store.tables import reference_column

__all__ = ["FeatureDataset", "load_dataset"]

logger = logging.getLogger("lamofcbench")


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

    def ids(self) -> list[str]:
        """The samples' ids, in order, without reading their features."""
        return [str(self._reader.state.rows[row]["id"]) for row in self._rows]

    def lengths(self, position: int) -> dict[str, int]:
        """Length per ragged axis of a sample, without reading its features.

        Raises:
            IndexError: there is no such sample.
        """
        return self._reader.state.lengths(self._rows[position])

    def source_sha256(self, position: int) -> str:
        """Hash of the source's bytes that a sample was made of.

        Raises:
            IndexError: there is no such sample.
        """
        return str(self._reader.state.rows[self._rows[position]]["source_sha256"])

    def __repr__(self) -> str:
        """Say which samples of which store these are."""
        state = self._reader.state
        whole = "" if state.complete else ", partial" if state.part else ", unfinished"
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
        archive: a folder, ``"org/name"`` on the Hub, or ``"lamofcbench"`` for the default archive
            (see `find_archive`). What the selection needs of a Hub's archive is kept in the user
            cache, and fetched first where it is not there, unless it is streamed.
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
        NotPulledError: a sample or tensor is not in this part of a store; the message has the
            command that fetches it.
        HubError: what is lacking cannot be fetched.
        IntegrityError: the store is damaged.
    """
    place = find_archive(archive)
    if tensors is not None:
        tensors = [tensors] if isinstance(tensors, str) else list(tensors)
    if samples is not None and not isinstance(samples, str | slice):
        samples = list(samples)
    if place.repo is None and revision is not None:
        raise ArchiveNotFoundError(
            f"{place.folder} is a folder and has no revisions; leave out revision={revision!r}, "
            "or name a repository, org/name"
        )
    if streaming and place.repo is not None:
        if config is None:
            raise UnknownNameError("config", "", list_configs(), "Name one.")
        reader = _open_remote(place.repo, config, profile, revision)
    else:
        if place.repo is not None and config is not None:
            from lamofcbench.fetch import ensure

            ensure(place.repo, place.folder, config, profile, split, samples, tensors, revision)
        reader = _open_local(place.folder, config, profile)
    state = reader.state
    draft = state.draft
    if state.part is None and not state.complete:
        warnings.warn(
            f"{reader.store} is unfinished: {len(state.shards)} of {draft.shard_count} shards are "
            "there",
            IncompleteArchiveWarning,
            stacklevel=2,
        )
    wanted = draft.split_rows(split)
    readable = set(reader.rows(split))
    chosen = select_positions(samples, len(wanted), f"split {split} of {config}")
    rows = [wanted[position] for position in chosen]
    keys = select_keys(tensors, list(draft.keys))
    if state.part is not None:
        keys, rows = _here(state, keys, rows, tensors is None, samples is None)
    rows = [row for row in rows if row in readable]
    return FeatureDataset(reader.store, split, keys, rows, reader)


def _open_remote(repo: str, config: str, profile: str | None, revision: str | None) -> StoreReader:
    # Here, so that who reads from disk needs no HTTP.
    from lamofcbench.hub.stream import open_store

    remote = open_store(repo, config, profile, revision)
    return StoreReader(remote.store, remote)


def _open_local(folder: Path, config: str | None, profile: str | None) -> StoreReader:
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
    return StoreReader(store)


def _here(
    state: StoreState, keys: list[str], rows: list[int], any_key: bool, any_row: bool
) -> tuple[list[str], list[int]]:
    """What a part has of a selection: an error for what was named, a warning for the rest."""
    store, draft, part = state.store, state.draft, state.part
    if part is None:
        return keys, rows
    asked, samples = list(keys), len(rows)

    def has(row: int, key: str) -> bool:
        return part.has(key, row // draft.samples_per_shard)

    if any_key:
        named = [] if any_row else rows
        keys = [k for k in keys if part.keys.get(k) and all(has(row, k) for row in named)]
    wanted = sorted({row // draft.samples_per_shard for row in rows})
    if any_row:
        rows = [row for row in rows if all(has(row, key) for key in keys)]
    lacking = [key for key in keys if not all(has(row, key) for row in rows)]
    if lacking or not keys or not rows:
        options = [f"--shards {','.join(map(str, wanted))}"] if wanted else []
        if not any_key:
            options.append(f"--tensors {','.join(asked)}")
        what = "" if any_key else f" of {', '.join((lacking or asked)[:4])}"
        raise NotPulledError(
            f"{store}: a part of its store, without these samples{what}. To fetch them: "
            f"{pull_command(store, part.repo, *options)}"
        )
    if len(keys) < len(asked) or len(rows) < samples:
        warnings.warn(
            f"{store} is a part of its store; not here: {part.absent(draft)}. "
            f"To fetch it: {pull_command(store, part.repo)}",
            IncompleteArchiveWarning,
            stacklevel=3,
        )
    return keys, rows
