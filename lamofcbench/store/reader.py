"""Reading a store: samples by row, tensors by name, nothing but what is asked for."""

import contextlib
import math
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from lamofcbench.bits import from_storage, itemsize
from lamofcbench.errors import IntegrityError, NotPulledError
from lamofcbench.store.lanes import Lanes, Once
from lamofcbench.store.part import pull_command
from lamofcbench.store.remote import RemoteSource, load_published
from lamofcbench.store.shard import ShardFileReader, shard_header
from lamofcbench.store.source import ByteSource, LocalFolder
from lamofcbench.store.state import StoreState, load_state

__all__ = ["StoreReader", "open_shard"]

# Each is a memory map without a file handle; past this many the least used is dropped.
MAX_OPEN_SHARDS = 512
# Of a store elsewhere: tensors and samples that are fetched at once, and bytes of samples ahead.
TENSORS_AT_ONCE = 16
SAMPLES_AHEAD = 8
BYTES_AHEAD = 256 << 20
# Small samples that follow one another in a shard are fetched together, up to so many bytes.
BYTES_TOGETHER = 1 << 20

Result = TypeVar("Result")


class StoreReader:
    """Random access to the samples of one store, finished or not, here or elsewhere.

    Pickles as its path, or as its name on the Hub; opens lazily, so each process has its own maps
    and connections.
    """

    def __init__(self, store: Path, remote: RemoteSource | None = None) -> None:
        """Name a store; it is opened, and checked, when first read.

        Args:
            store: its folder.
            remote: where its bytes come from if it isn't on disk.
        """
        self.store = store
        self.remote = remote
        self._state: StoreState | None = None
        self._shards: OrderedDict[tuple[str, int], ShardFileReader] = OrderedDict()
        self._fetched = Once(MAX_OPEN_SHARDS)
        self._tensors = Lanes(TENSORS_AT_ONCE)
        self._samples = Lanes(SAMPLES_AHEAD)

    def __getstate__(self) -> dict[str, Any]:
        """Keep only where the store is."""
        return {"store": self.store, "remote": self.remote}

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        """Start again from there."""
        self.__init__(state["store"], state["remote"])  # type: ignore[misc]

    @property
    def state(self) -> StoreState:
        """What the store holds; see `load_state` for what is checked and raised."""
        if self._state is None:
            if self.remote is None:
                self._state = load_state(self.store)
            else:
                self._state = load_published(self.remote)
        return self._state

    def rows(self, split: str) -> list[int]:
        """Store rows of a split that can be read: recorded or pulled, and not skipped."""
        state = self.state
        return [row for row in state.draft.split_rows(split) if state.readable(row)]

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
            HubError: it is elsewhere and can't be fetched.
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

    def read_sample(
        self, paths: Sequence[str], row: int, *, table: bool
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Read several arrays of one sample, at once if they are elsewhere.

        Args:
            paths: of the arrays.
            row: the sample's row in the store.
            table: whether its row of the sample table is wanted, too.

        Returns:
            A tensor per path, as `read` gives it, and the table's row (empty if not wanted).
        """
        rows = self.state.rows
        if self.remote is None:
            return {path: self.read(path, row) for path in paths}, rows[row] if table else {}

        def get(path: str | None) -> Any:
            return rows[row] if path is None else self.read(path, row)

        wanted = [*([None] if table else []), *paths]
        found = dict(zip(wanted, self._tensors.map(get, wanted), strict=True))
        in_table = found.pop(None, {})
        return {path: found[path] for path in paths}, in_table

    def each(
        self, make: Callable[[int], Result], rows: Sequence[int], paths: Sequence[str]
    ) -> Iterator[Result]:
        """Make something of each sample, in order, fetching the next ones meanwhile.

        Args:
            make: called with each row, in a thread if the store is elsewhere.
            rows: of the samples.
            paths: what ``make`` reads, to bound the memory that waiting samples take.
        """
        if self.remote is None:
            return (make(row) for row in rows)
        state = self.state
        layouts = [state.draft.layouts[path] for path in paths]

        def weigh(row: int) -> int:
            lengths = state.lengths(row)
            return sum(
                itemsize(layout.captured) * math.prod(layout.stored_shape(lengths))
                for layout in layouts
            )

        runs = self._runs(rows, weigh)

        def make_run(run: Sequence[int]) -> list[Result]:
            if len(run) == 1:
                return [make(run[0])]
            with contextlib.ExitStack() as stack:
                self._tensors.map(lambda path: stack.enter_context(self._hold(path, run)), paths)
                return [make(row) for row in run]

        made = self._samples.ahead(make_run, runs, lambda run: sum(map(weigh, run)), BYTES_AHEAD)
        return (result for results in made for result in results)

    def _runs(self, rows: Sequence[int], weigh: Callable[[int], int]) -> list[list[int]]:
        """Cut rows where they don't follow one another in a shard, or take too many bytes."""
        step = self.state.draft.samples_per_shard
        runs: list[list[int]] = []
        held = 0
        for row in rows:
            held += weigh(row)
            if runs and runs[-1][-1] == row - 1 and row % step and held <= BYTES_TOGETHER:
                runs[-1].append(row)
            else:
                runs.append([row])
                held = weigh(row)
        return runs

    def _hold(self, path: str, run: Sequence[int]) -> contextlib.AbstractContextManager[None]:
        shard, slot = divmod(run[0], self.state.draft.samples_per_shard)
        return self._open(path, shard).holding(slot, slot + len(run))

    def _open(self, path: str, shard: int) -> ShardFileReader:
        if self.remote is not None:
            source = self.remote
            return self._fetched.get(
                (path, shard), lambda: open_shard(self.state, path, shard, source)
            )
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


def open_shard(
    state: StoreState, path: str, shard: int, source: ByteSource | None = None
) -> ShardFileReader:
    """Open one shard file of a store and check its header and index.

    Args:
        state: of the store.
        path: of the array.
        shard: its number.
        source: where the store's bytes come from; its folder by default.

    Raises:
        IntegrityError: it is missing, damaged, or another one.
    """
    source = source or LocalFolder(state.store)
    draft = state.draft
    layout = draft.layouts[path]
    entry = state.shards[shard]
    name = layout.shard_path(shard)
    if name not in state.files:
        raise IntegrityError(f"{state.store / name}: not in the manifest. {source.remedy}")
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
        source.remedy,
        source.open(name, state.files[name]),
    )
