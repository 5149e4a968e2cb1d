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
        """Iterate over the samples in order."""
        return (self[position] for position in range(len(self)))

    def __getitem__(self, position: int) -> Item:
        """Read one sample.

        Raises:
            IndexError: there is no such sample.
            IntegrityError: a file that it needs is missing or damaged.
        """
        row = self._rows[position]
        read, state = self._reader.read, self._reader.state
        draft, table = state.draft, state.rows[row]
        return {
            "id": table["id"],
            "index": row,
            "features": {key: read(key, row) for key in self.keys},
            "context": {name: read(f"context/{name}", row) for name in draft.context},
            "reference": {
                **{name: table[reference_column(name)] for name in draft.declaration.reference},
                **{name: read(f"reference/{name}", row) for name in draft.reference},
            },
            "lengths": state.lengths(row),
        }

    def subset(self, ids: Sequence[str]) -> "FeatureDataset":
        """Choose samples by their ids, in the given order.

        Raises:
            SelectionError: a sample isn't among these.
        """
        rows = {self._reader.state.rows[row]["id"]: row for row in self._rows}
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
    revision: str | None = None,
) -> FeatureDataset:
    """Load a config of an archive as a torch data set.

    Args:
        archive: a folder, ``"org/name"`` on the Hub, or ``"lamofcbench"`` for the default archive
            (see `find_archive`). What the selection needs of a Hub's archive is kept in the user
            cache, and fetched first where it is not there.
        config: such as ``"vqa-mllm"``.
        profile: ``tiny``, ``full`` or ``x-<slug>``; by default full before x before tiny.
        split: ``test``, ``calibration`` or ``train``.
        samples: positions within the split: integers, a slice or ``"0:10"``; all by default.
            Skipped samples count as positions but are left out.
        tensors: keys to read, exact or with ``*``; all by default.
        revision: of a Hub's archive: tag, branch or commit.

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
    folder = place.folder
    if tensors is not None:
        tensors = [tensors] if isinstance(tensors, str) else list(tensors)
    if samples is not None and not isinstance(samples, str | slice):
        samples = list(samples)
    if place.repo is not None and config is not None:
        from lamofcbench.fetch import ensure

        ensure(place.repo, folder, config, profile, split, samples, tensors, revision)
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
    if state.part is None and not state.complete:
        warnings.warn(
            f"{store} is unfinished: {len(state.shards)} of {draft.shard_count} shards are there",
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
    return FeatureDataset(store, split, keys, [row for row in rows if row in readable], reader)


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
