"""The reference's files as a finished store, through the writer that extraction uses."""

import datetime
import math
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError

from lamofcbench import __version__
from lamofcbench.atomic import canonical_json, sha256_bytes, sha256_file
from lamofcbench.bits import dtype_name, itemsize
from lamofcbench.errors import SourceError
from lamofcbench.interop.imported import FILES_SHA256, IMPORTED, MISSING, REVISION
from lamofcbench.interop.names import Naming, find_files, naming
from lamofcbench.interop.structures import from_skeleton, raw_skeleton
from lamofcbench.interop.zst import read_zst
from lamofcbench.layout import build_layouts
from lamofcbench.manifest import (
    FORMAT_VERSION,
    ArrayEntry,
    CaptureEntry,
    Draft,
    Manifest,
    ModelEntry,
    SourceEntry,
)
from lamofcbench.spec import ProfileSpec, ScenarioSpec, TensorSpec, load_scenario
from lamofcbench.store.writer import Sample, StoreWriter

__all__ = ["RawFile", "Release", "import_reference", "open_release"]

WRAPPER = "features"


@dataclass(frozen=True)
class RawFile:
    """One file of a release.

    Attributes:
        path: where it lies.
        sample: whose it is.
    """

    path: Path
    sample: str


@dataclass(frozen=True)
class Release:
    """A config's files of a release.

    Attributes:
        scenario: the config's declaration.
        declared: the profile that names their tensors.
        files: in the order of their names.
        skeleton: the nest that each of them holds.
    """

    scenario: ScenarioSpec
    declared: ProfileSpec
    files: list[RawFile]
    skeleton: Any

    @property
    def most_bytes(self) -> int:
        """Bytes that a file may hold uncompressed: twice what is declared, and room for names."""
        profile = self.declared
        sizes = (
            itemsize(tensor.captured)
            * math.prod(
                profile.ragged[size].max if isinstance(size, str) else size for size in tensor.shape
            )
            for tensor in profile.keys
        )
        return 2 * sum(sizes) + (64 << 20)

    def features(self, file: RawFile, *, shapes_only: bool = False) -> dict[str, torch.Tensor]:
        """Read a file's tensors, in the model's own layout; see `read_zst`.

        Raises:
            SourceError: it is damaged or holds something else; the message names it.
        """
        found = read_zst(file.path, shapes_only=shapes_only, most=self.most_bytes)
        if isinstance(found, dict) and set(found) == {WRAPPER}:
            found = found[WRAPPER]
        try:
            return from_skeleton(self.skeleton, found)
        except SourceError as error:
            raise SourceError(f"{file.path}: {error}") from None


def open_release(folder: Path, config: str, profile: str = "full") -> Release:
    """Find a config's files.

    Args:
        folder: a release, or one config's files.
        config: its name.
        profile: whose tensors they hold: ``tiny``, or else those of ``full``.

    Raises:
        UnknownNameError: no such config.
        SourceError: there are no such files, or two of one sample.
    """
    scenario = load_scenario(config)
    declared = scenario.profile("tiny" if profile == "tiny" else "full")
    keys = [tensor.name for tensor in declared.keys]
    names: Naming = naming(scenario, keys)
    skeleton = raw_skeleton(scenario.family, scenario.task, keys)
    files = [RawFile(path, names.sample(path)) for path in find_files(folder, names.group)]
    seen: dict[str, Path] = {}
    for file in files:
        if file.sample in seen:
            raise SourceError(f"{file.path} and {seen[file.sample]}: both of {file.sample}")
        seen[file.sample] = file.path
    return Release(scenario, declared, files, skeleton)


def import_reference(
    folder: Path,
    config: str,
    archive: Path,
    profile: str = "full",
    *,
    calibration: int = 0,
    start: Callable[[int], Callable[[], object]] = lambda _: lambda: None,
) -> Manifest:
    """Make a store of a config's files, which are all looked at before anything is written.

    Tensors keep their bits and dtypes; their shapes must agree with one another, not with the
    declared model's. An import that was interrupted goes on where it was.

    Args:
        folder: as for `open_release`.
        config: its name.
        archive: is made.
        profile: the store's name: ``full``, ``tiny`` or ``x-<slug>``.
        calibration: how many of the first files become the calibration split; the rest is ``test``.
        start: takes how many steps there will be; what it returns is called after each.

    Raises:
        SourceError: a file is missing, damaged, or does not fit the others.
        RequestMismatchError: the archive has another store of this name.
    """
    release = open_release(folder, config, profile)
    if not 0 <= calibration < len(release.files):
        raise SourceError(
            f"--calibration {calibration}: of {len(release.files)} files, one must be for testing"
        )
    step = start(2 * len(release.files))
    hashes: dict[str, str] = {}
    survey = _Survey(release.declared)
    for file in release.files:
        survey.add(file, release.features(file, shapes_only=True))
        hashes[file.sample] = sha256_file(file.path)
        step()
    spec = _profile(release, survey, hashes, calibration)
    draft = _draft(release.scenario, profile, spec, len(release.files), calibration)
    with StoreWriter(archive / config / profile, draft) as writer:
        for shard in writer.pending():
            rows = draft.shard_rows(shard)
            files = release.files[rows.start : rows.stop]
            writer.write_shard(shard, _samples(release, files, hashes, step))
        finished = writer.finalise()
    if finished is None:
        raise SourceError(f"{archive / config / profile}: another process is still writing it")
    return finished


class _Survey:
    """Collects dtypes, sizes and lengths of every file, and refuses what doesn't fit."""

    def __init__(self, declared: ProfileSpec) -> None:
        self._declared = declared
        self._first: dict[str, tuple[Path, str, tuple[int | str, ...]]] = {}
        self.longest: dict[str, int] = {}

    def add(self, file: RawFile, features: Mapping[str, torch.Tensor]) -> None:
        lengths: dict[str, int] = {}
        for tensor in self._declared.keys:
            found, where = features[tensor.name], f"{file.path}: {tensor.name}"
            if found.ndim != len(tensor.axes):
                axes = ", ".join(native_axes(tensor))
                raise SourceError(f"{where}: shape {list(found.shape)}, expected axes {axes}")
            sizes = dict(zip(native_axes(tensor), found.shape, strict=True))
            if not all(sizes.values()):
                raise SourceError(f"{where}: shape {list(found.shape)} is empty")
            ragged = tensor.ragged_axis
            if ragged is not None and lengths.setdefault(ragged, sizes[ragged]) != sizes[ragged]:
                raise SourceError(
                    f"{where}: {sizes[ragged]} along {ragged}, other tensors have {lengths[ragged]}"
                )
            shape = tuple(axis if axis == ragged else sizes[axis] for axis in tensor.axes)
            said = (file.path, dtype_name(found), shape)
            first = self._first.setdefault(tensor.name, said)
            if first[1:] != said[1:]:
                raise SourceError(
                    f"{where}: {said[1]} {_text(shape)}, but {first[1]} {_text(first[2])} "
                    f"in {first[0]}"
                )
        for axis, length in lengths.items():
            self.longest[axis] = max(length, self.longest.get(axis, 0))

    def keys(self) -> list[dict[str, Any]]:
        """Declarations of the keys as they were found."""
        return [
            {
                "name": tensor.name,
                "axes": tensor.axes,
                "shape": self._first[tensor.name][2],
                "captured": self._first[tensor.name][1],
                "reference": tensor.reference,
            }
            for tensor in self._declared.keys
        ]


def native_axes(tensor: TensorSpec) -> list[str]:
    """Axes in the model's own layout: heads first."""
    return (
        sorted(tensor.axes, key=lambda axis: axis != "head")
        if "head" in tensor.axes
        else [*tensor.axes]
    )


def _text(shape: tuple[int | str, ...]) -> str:
    return "x".join(str(size) for size in shape)


def _profile(
    release: Release, survey: _Survey, hashes: Mapping[str, str], calibration: int
) -> ProfileSpec:
    """The declaration of an imported store: what the files hold, and what they lack."""
    declared = release.declared
    lacking = [
        *(f"context/{tensor.name}" for tensor in declared.context),
        *(f"reference/{name}" for name in declared.reference),
        *(f"reference/{tensor.name}" for tensor in declared.reference_arrays),
        REVISION,
    ]
    lines = "".join(f"{sample} {digest}\n" for sample, digest in hashes.items())
    ragged = {
        axis: {
            "max": max(longest, declared.ragged[axis].max),  # type: ignore[index]
            "typical": declared.ragged[axis].typical,  # type: ignore[index]
        }
        for axis, longest in survey.longest.items()
    }
    body = declared.model_dump(mode="json") | {
        "samples": {
            "calibration": calibration,
            "test": len(release.files) - calibration,
            "train": 0,
        },
        "ragged": ragged,
        "keys": survey.keys(),
        "context": [],
        "reference": {},
        "reference_arrays": [],
        "modes": {name: {"keys": mode.keys} for name, mode in declared.modes.items()},
        "preprocess": {
            IMPORTED: "files of the reference's release",
            MISSING: ", ".join(lacking),
            FILES_SHA256: sha256_bytes(lines.encode()),
        },
    }
    body["source"] |= {"selection": "all files of the release, by name", "revision": None}
    body["model"] |= {"revision": None}
    try:
        return ProfileSpec.model_validate(body)
    except ValidationError as error:
        fault = error.errors()[0]
        place = ".".join(str(part) for part in fault["loc"])
        raise SourceError(f"the files cannot be declared: {place}: {fault['msg']}") from None


def _draft(
    scenario: ScenarioSpec, name: str, profile: ProfileSpec, count: int, calibration: int
) -> Draft:
    """What is asked for. The model didn't run here, so none of its parameters were loaded."""
    entries = {
        path: ArrayEntry(**layout.to_manifest())
        for path, layout in build_layouts(profile, name, count).items()
    }
    asked = {
        "format_version": FORMAT_VERSION,
        "config": scenario.config,
        "profile": name,
        "declaration": profile.model_dump(mode="json"),
        "model_revision": None,
    }
    epoch = os.environ.get("SOURCE_DATE_EPOCH")
    now = datetime.datetime.now(datetime.UTC)
    moment = datetime.datetime.fromtimestamp(int(epoch), datetime.UTC) if epoch else now
    splits = {"calibration": calibration, "test": count - calibration}
    return Draft(
        format_version=FORMAT_VERSION,
        config=scenario.config,
        profile=name,
        category=scenario.category,
        title=scenario.title,
        model=ModelEntry(
            id=profile.model.id,
            revision=None,
            family=scenario.family,
            licence=profile.model.licence,
            parameters_loaded=0,
            parameters_total=0,
        ),
        split_point=profile.split_point,
        source=SourceEntry(**profile.source.model_dump(exclude={"name"})),
        capture=CaptureEntry(
            device="unknown",
            dtype=profile.model.dtype,
            versions={"lamofcbench": __version__},
            seed=profile.source.seed,
            git_commit=None,
            date=moment.date().isoformat(),
        ),
        declaration=profile,
        request_sha256=sha256_bytes(canonical_json(asked)),
        splits={split: number for split, number in splits.items() if number},
        keys=entries,
        context={},
        reference={},
    )


def _samples(
    release: Release,
    files: list[RawFile],
    hashes: Mapping[str, str],
    step: Callable[[], object],
) -> Iterator[Sample]:
    for file in files:
        yield Sample(
            id=file.sample,
            arrays=release.features(file),
            reference={},
            summary=f"imported from {file.path.name}",
            source_id=file.path.name,
            source_sha256=hashes[file.sample],
        )
        step()
