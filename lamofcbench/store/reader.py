"""Reading a store: samples by row, tensors by name, nothing but what is asked for."""

from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from lamofcbench.bits import from_storage
from lamofcbench.errors import IntegrityError, NotPulledError
from lamofcbench.manifest import mend
from lamofcbench.store.part import pull_command
from lamofcbench.store.shard import ShardFileReader, shard_header
from lamofcbench.store.state import StoreState, load_state

__all__ = ["StoreReader", "open_shard"]

# Each is a memory map without a file handle; past this many the least used is dropped.
MAX_OPEN_SHARDS = 512


class StoreReader:
    """Random access to the samples of one store, finished or not.

    Pickles as its path; opens lazily, so each process has its own maps.
    """

    def __init__(self, store: Path) -> None:
        """Name a store; it is opened, and checked, when first read."""
        self.store = store
        self._state: StoreState | None = None
        self._shards: OrderedDict[tuple[str, int], ShardFileReader] = OrderedDict()

    def __getstate__(self) -> dict[str, Any]:
        """Keep only the path."""
        return {"store": self.store}

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        """Start again from the path."""
        self.__init__(state["store"])  # type: ignore[misc]

    @property
    def state(self) -> StoreState:
        """What the store holds; see `load_state` for what is checked and raised."""
        if self._state is None:
            self._state = load_state(self.store)
        return self._state

    def rows(self, split: str) -> list[int]:
        """Store rows of a split that can be read: recorded or pulled, and not skipped."""
        state = self.state
        return [
            row
            for row in state.draft.split_rows(split)
            if row in state.rows
            and state.rows[row]["status"] == "ok"
            and row // state.draft.samples_per_shard in state.shards
        ]

    def read(self, path: str, row: int) -> Any:
        """Read one array of one sample.

        Args:
            path: of the array, such as ``layer.4.output`` or ``context/token_ids``.
            row: the sample's row in the store.

        Returns:
            A torch tensor in the model's own layout and dtype, of its actual length.

        Raises:
            IntegrityError: the shard is missing or damaged.
            NotPulledError: it is not in this part of the store.
        """
        state = self.state
        layout = state.draft.layouts[path]
        shard, slot = divmod(row, layout.shard[0])
        if state.part is not None and not state.part.has(path, shard):
            command = pull_command(self.store, state.part.repo, f"--shards {shard}", _tensors(path))
            raise NotPulledError(
                f"{self.store}: shard {shard} of {path} is not here. To fetch it: {command}"
            )
        reader = self._open(path, shard)
        stored = reader.read(slot, layout.stored_shape(state.lengths(row)))
        native = np.ascontiguousarray(np.transpose(stored, layout.native_order))
        return from_storage(native, layout.captured, layout.logical)

    def _open(self, path: str, shard: int) -> ShardFileReader:
        if (path, shard) in self._shards:
            self._shards.move_to_end((path, shard))
            return self._shards[path, shard]
        reader = open_shard(self.state, path, shard)
        if len(self._shards) >= MAX_OPEN_SHARDS:
            self._shards.popitem(last=False)
        self._shards[path, shard] = reader
        return reader


def _tensors(path: str) -> str:
    return f"--tensors {path}" if "/" not in path else ""


def open_shard(state: StoreState, path: str, shard: int) -> ShardFileReader:
    """Open one shard file of a store and check its header and index.

    Raises:
        IntegrityError: it is missing, damaged, or another one.
    """
    draft = state.draft
    layout = draft.layouts[path]
    entry = state.shards[shard]
    name = layout.shard_path(shard)
    if name not in state.files:
        raise IntegrityError(f"{state.store / name}: not in the manifest. {mend(state.store)}")
    lengths = entry.lengths[layout.ragged_axis] if layout.ragged_axis else [1] * len(entry.samples)
    return ShardFileReader(
        state.store / name,
        layout,
        shard_header(draft.config, draft.profile, path, shard, draft.request_sha256),
        [
            0 if row in entry.skipped else length
            for row, length in zip(draft.shard_rows(shard), lengths, strict=True)
        ],
        state.files[name].bytes,
        mend(state.store),
    )
