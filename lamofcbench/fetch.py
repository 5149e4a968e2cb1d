"""Fetching what a selection of samples and tensors needs from a published archive."""

import logging
from collections.abc import Iterable
from pathlib import Path

from lamofcbench.archive import list_stores
from lamofcbench.errors import LamofcError, SelectionError
from lamofcbench.hub.pull import PullPlan, plan_pull, pull
from lamofcbench.hub.remote import RemoteStore, open_remote
from lamofcbench.manifest import Draft
from lamofcbench.sampling import Selection, select_keys, select_positions
from lamofcbench.store.state import StoreState, load_state

__all__ = ["ensure", "plan_fetch", "shards_of"]

logger = logging.getLogger("lamofcbench")


def shards_of(draft: Draft, split: str, samples: Selection) -> list[int]:
    """Shards that hold some samples of a split.

    Raises:
        UnknownNameError: no such split.
        SelectionError: ``samples`` reaches beyond it.
    """
    rows = draft.split_rows(split)
    chosen = select_positions(samples, len(rows), f"split {split} of {draft.config}")
    return sorted({rows[position] // draft.samples_per_shard for position in chosen})


def plan_fetch(
    remote: RemoteStore,
    archive: Path,
    *,
    split: str | None = None,
    samples: Selection = None,
    tensors: Iterable[str] | None = None,
    shards: Iterable[int] | None = None,
) -> PullPlan:
    """Plan to pull what a selection needs.

    Args:
        remote: the published store.
        archive: the folder to pull into.
        split: that ``samples`` are counted in, ``test`` by default; alone, all of its samples.
        samples: positions within the split.
        tensors: keys, exact or with ``*``; all by default.
        shards: numbers, in place of split and samples.

    Raises:
        UnknownNameError: no such split or tensor.
        SelectionError: no such sample or shard.
        RequestMismatchError: the archive holds another store of that name.
    """
    manifest = remote.manifest
    if shards is not None:
        if split is not None or samples is not None:
            raise SelectionError("choose by shards, or by split and samples, not by both")
        shards = sorted(set(shards))
        if beyond := [n for n in shards if not 0 <= n < manifest.shard_count]:
            raise SelectionError(
                f"shard {beyond[0]}: {manifest.config} has shards 0 to {manifest.shard_count - 1}"
            )
    elif split is not None or samples is not None:
        shards = shards_of(manifest, split or "test", samples)
    if shards is not None and not shards:
        raise SelectionError(f"{manifest.config}: no sample is chosen")
    keys = None if tensors is None else select_keys(tensors, list(manifest.keys))
    return plan_pull(remote, archive, shards, keys)


def _held(archive: Path, config: str, profile: str | None) -> StoreState | None:
    """What is there of a config already; None if nothing, or nothing whole."""
    profiles = list_stores(archive).get(config, []) if archive.is_dir() else []
    name = profile or next(iter(profiles), None)
    if name not in profiles:
        return None
    try:
        return load_state(archive / config / name)
    except LamofcError:
        return None


def ensure(
    repo: str,
    archive: Path,
    config: str,
    profile: str | None,
    split: str,
    samples: Selection,
    tensors: Iterable[str] | None,
    revision: str | None = None,
) -> None:
    """Have what a selection needs in the cache; nothing is asked of the Hub if it is there.

    Without a selection, a part that is there is left as it is: what it lacks may be large.

    Args:
        repo: ``org/name``.
        archive: the folder that keeps what is pulled from it.
        config: such as ``arc-llm``.
        profile: by default what is there already, else full, else tiny.
        split: of the samples.
        samples: positions within the split; all by default.
        tensors: keys; all by default.
        revision: tag, branch or commit to pull from; asks the Hub in any case.

    Raises:
        ArchiveNotFoundError: the repository has no such store.
        HubError: it cannot be reached.
        IntegrityError: what it has is damaged.
        UnknownNameError, SelectionError: the selection names what does not exist.
    """
    state = _held(archive, config, profile)
    if state is not None and revision is None:
        if state.part is None or (samples is None and tensors is None):
            return
        keys = select_keys(tensors, list(state.draft.keys))
        wanted = shards_of(state.draft, split, samples)
        if all(state.has(key, shard) for key in keys for shard in wanted):
            return
    if state is not None:
        profile = state.draft.profile
    remote = open_remote(repo, config, profile, revision, archive)
    plan = plan_fetch(remote, archive, split=split, samples=samples, tensors=tensors)
    if not plan.files:
        return pull(plan)
    logger.warning(
        "%s: fetching %d files, %.1f MB, of %s from %s at %s",
        config,
        len(plan.files),
        plan.bytes / 1e6,
        remote.folder,
        repo,
        remote.commit[:12],
    )
    pull(plan)
