"""Runs an extraction: source, front half, store, shard by shard."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from extraction.request import build_draft, request_sha256
from extraction.sources import SOURCES
from extraction.sources.base import Source, SourceSample
from lamofcbench.errors import SampleError, SourceError
from lamofcbench.manifest import MANIFEST, Draft, Manifest, load_manifest
from lamofcbench.models import FAMILIES
from lamofcbench.models.base import Family
from lamofcbench.spec import SPLITS, ProfileSpec, ScenarioSpec, load_scenario
from lamofcbench.store.work import WORK
from lamofcbench.store.writer import Sample, StoreWriter

__all__ = ["Outcome", "Request", "extract"]


@dataclass(frozen=True)
class Request:
    """What a user asks of one extraction.

    Attributes:
        config: such as ``vqa-mllm``.
        profile: ``tiny`` or ``full``; by default tiny, or full if a model and a source are given.
        model: a folder or Hub id of the same family in place of the declared checkpoint.
        archive: where the store goes.
        samples: test samples in place of the declared number.
        shards: ``first:last``, to write only some of the shards.
        source: a local copy of the data set.
        device: where the front half runs.
        strict: whether a bad sample stops the run rather than being recorded as skipped.
        compressed: whether chunks are compressed; if not they read faster.
    """

    config: str
    profile: str | None = None
    model: str | None = None
    archive: Path = Path("archive")
    samples: int | None = None
    shards: str | None = None
    source: Path | None = None
    device: str = "cpu"
    strict: bool = False
    compressed: bool = True


@dataclass(frozen=True)
class Outcome:
    """How an extraction ended: the store, its manifest if it is finished, and what was written."""

    store: Path
    draft: Draft
    manifest: Manifest | None
    shards_written: int


def extract(request: Request) -> Outcome:
    """Capture the features of one config into a store; take up an unfinished one.

    Raises:
        LamofcError: see the errors of the declaration, the model, the source and the writer.
        OSError: the disk is full or fails; finished shards are kept.
    """
    scenario = load_scenario(request.config)
    name, profile = _chosen(scenario, request)
    profile = SOURCES.load(profile.source.name).fitted(_adjusted(profile, request), request.source)
    store = request.archive / request.config / name
    family: type[Family] = FAMILIES.load(scenario.family)
    asked = request_sha256(scenario.config, name, profile, family.revision_of(profile))
    if (found := _finished(store)) is not None and found.request_sha256 == asked:
        return Outcome(store, found, found, 0)
    if request.device == "cpu" and name == "tiny":
        # Threads bring nothing at this size, and the bytes must not depend on how many there are.
        torch.set_num_threads(1)
    torch.manual_seed(profile.source.seed)
    torch.use_deterministic_algorithms(True)
    model = family.load(profile, device=request.device, half="front")
    draft = build_draft(scenario, name, profile, model, request.device)
    shards = parse_shards(request.shards, draft.shard_count)
    with StoreWriter(store, draft, shards) as writer:
        pending = writer.pending()
        if pending:
            source: Source = SOURCES.load(profile.source.name)(profile, request.source)
            _write(writer, pending, source, model, request)
        manifest = writer.finalise()
    return Outcome(store, draft, manifest, len(pending))


def _finished(store: Path) -> Manifest | None:
    """The manifest of a store that needs nothing more, not even its journal removed."""
    if not (store / MANIFEST).is_file() or (store / WORK).exists():
        return None
    return load_manifest(store)


def _chosen(scenario: ScenarioSpec, request: Request) -> tuple[str, ProfileSpec]:
    """The profile to run, and the name under which the archive keeps it."""
    both = request.model is not None and request.source is not None
    base = request.profile or ("full" if both else "tiny")
    profile = scenario.profile(base)
    if request.model is None:
        return base, profile
    family: type[Family] = FAMILIES.load(scenario.family)
    slug = re.sub(r"[^a-z0-9]+", "-", request.model.rstrip("/").rpartition("/")[2].lower())
    # The bounds of real data, whatever the data: the declared miniature's fit it alone.
    bounds = scenario.profiles.get("full", profile).ragged
    model = profile.model.model_copy(update={"id": request.model, "revision": None})
    changed = profile.model_copy(update={"model": model, "ragged": {**profile.ragged, **bounds}})
    return f"x-{slug.strip('-') or 'model'}", family.adapted(changed)


def _adjusted(profile: ProfileSpec, request: Request) -> ProfileSpec:
    changes: dict[str, Any] = {}
    if request.samples is not None:
        if request.samples < 1:
            raise SourceError(f"SAMPLES={request.samples}: expected at least 1")
        changes["samples"] = profile.samples.model_copy(update={"test": request.samples})
    if not request.compressed:
        changes["compression"] = "none"
    return profile.model_copy(update=changes)


def parse_shards(text: str | None, count: int) -> range:
    """Parse ``first:last`` (either side may be empty) into a range of shards below ``count``.

    Raises:
        SourceError: the text is not of that form, or names no shard.
    """
    if not text:
        return range(count)
    first, colon, last = text.partition(":")
    try:
        chosen = range(int(first or 0), min(int(last or count), count))
    except ValueError:
        chosen = range(0)
    if not colon or not chosen or chosen.start < 0:
        raise SourceError(f"SHARDS={text}: expected first:last within 0:{count}")
    return chosen


def _write(
    writer: StoreWriter, pending: list[int], source: Source, model: Family, request: Request
) -> None:
    draft = writer.draft
    selected: dict[int, tuple[Sequence[SourceSample], int]] = {}
    for split in SPLITS:
        if split in draft.splits:
            chosen = source.select(split, draft.splits[split])
            rows = draft.split_rows(split)
            selected.update({row: (chosen, row - rows.start) for row in rows})

    def captured(shard: int) -> Iterator[Sample]:
        for row in draft.shard_rows(shard):
            samples, position = selected[row]
            yield _capture(samples[position], writer, model, request.strict)

    total = sum(len(draft.shard_rows(shard)) for shard in pending)
    title = f"{draft.config} ({draft.profile})"
    with tqdm(total=total, desc=title, unit="sample", disable=None) as bar:
        for shard in pending:
            writer.write_shard(shard, captured(shard), lambda _: bar.update())


def _capture(sample: SourceSample, writer: StoreWriter, model: Family, strict: bool) -> Sample:
    """Run the front half on one sample; a sample that breaks the declaration keeps its slot."""
    declared = writer.draft.declaration
    columns = {name: sample.reference.get(name) for name in declared.reference}
    arrays = {f"reference/{t.name}": sample.reference[t.name] for t in declared.reference_arrays}
    rest = (columns, sample.summary, sample.source_id, sample.sha256)
    try:
        capture = model.front(sample.inputs)
        arrays.update(capture.features)
        arrays.update({f"context/{name}": value for name, value in capture.context.items()})
        token_ids = None if capture.token_ids is None else capture.token_ids.tolist()
        made = Sample(sample.id, arrays, *rest, token_ids=token_ids)
        writer.check(made)
    except SampleError as error:
        if strict:
            raise
        return Sample(sample.id, {}, *rest, skipped=str(error))
    return made
