"""Checking a published release's own figures: its files after coding, against its raw files.

Every file after coding holds what was decoded, and metadata that says what it cost: bytes of the
entropy coder's strings per tensor, rates and errors. These are computed again, by the reference's
accounting (`lamofcbench.bench.reference`), and set beside what the file says. What isn't in the
files, such as the strings themselves and times, cannot be checked.
"""

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from lamofcbench.archive import list_stores
from lamofcbench.bench.reference import ReferencePart, reference_numbers, squared_error
from lamofcbench.bits import dtype_name
from lamofcbench.dataset import load_dataset
from lamofcbench.errors import SourceError
from lamofcbench.interop.import_reference import RawFile, Release, open_release
from lamofcbench.interop.structures import Leaf, coded_skeleton, leaves, tensors_in
from lamofcbench.interop.zst import read_zst

__all__ = ["TOLERANCE", "CodedFile", "Compared", "Reproduction", "reproduce"]

TOLERANCE = 0.005
ROUNDING = 1e-12
MOST_PARTS = 500
"""Containers within metadata, and so how deep they can lie."""
FILE_FIGURES = ("bpfp", "ebpfp", "mse")
UNCHECKED = ("quant_mse", "frontend_seconds", "backend_seconds")


@dataclass(frozen=True)
class Compared:
    """One figure of a file or of one of its tensors.

    Attributes:
        where: the tensor's place in the file; empty for the whole file.
        figure: as metadata names it.
        said: what metadata says; None if it doesn't.
        found: what follows from the files.
    """

    where: str
    figure: str
    said: Any
    found: Any

    @property
    def deviation(self) -> float:
        """Relative to what was said; infinite where nothing was, or they cannot be compared."""
        if isinstance(self.said, (int, float)) and isinstance(self.found, (int, float)):
            off = abs(self.found - self.said)
            if off <= ROUNDING:
                return 0.0
            ratio = off / abs(self.said) if self.said else math.inf
            return ratio if math.isfinite(ratio) else math.inf
        return 0.0 if self.said == self.found else math.inf


@dataclass
class CodedFile:
    """What came of one file after coding.

    Attributes:
        path: the file.
        sample: whose it is.
        figures: of the file, then of its tensors.
    """

    path: Path
    sample: str
    figures: list[Compared] = field(default_factory=list)

    def deviating(self, tolerance: float = TOLERANCE) -> list[Compared]:
        """Figures that are off by more than this, relatively."""
        return [one for one in self.figures if one.deviation > tolerance]


@dataclass
class Reproduction:
    """What came of a release.

    Attributes:
        config: its name.
        files: after coding.
        not_coded: raw samples that have no file after coding.
    """

    config: str
    files: list[CodedFile]
    not_coded: list[str]

    def means(self) -> dict[str, tuple[float | None, float]]:
        """Plain means over files of the whole files' figures: as said, if all say it; as found."""
        means = {}
        for name in FILE_FIGURES:
            rows = [one for file in self.files for one in file.figures if not one.where]
            rows = [one for one in rows if one.figure == name]
            said = [one.said for one in rows if one.said is not None]
            mean = sum(said) / len(said) if len(said) == len(rows) else None
            means[name] = (mean, sum(one.found for one in rows) / len(rows))
        return means


def reproduce(
    raw: Path,
    coded: Path,
    config: str,
    profile: str | None = None,
    start: Callable[[int], Callable[[], object]] = lambda _: lambda: None,
) -> Reproduction:
    """Compute the figures of files after coding again.

    Args:
        raw: an archive that has the config, or a folder of raw files.
        coded: a folder of files after coding, named as the raw ones.
        config: its name.
        profile: whose tensors they are; as for `load_dataset` or, in a folder of raw files, as for
            `open_release`.
        start: takes how many files there are; what it returns is called after each.

    Raises:
        SourceError: a file is damaged, holds something else, or has no raw counterpart.
        LamofcError: the archive is damaged.
    """
    source: _Archive | _Folder
    if config in list_stores(raw):
        source = _Archive(raw, config, profile)
    else:
        source = _Folder(raw, config, profile or "full")
    release = open_release(coded, config, source.profile)
    step = start(len(release.files))
    files = []
    for file in release.files:
        files.append(_check(release, file, *source.tensors(file)))
        step()
    done = {file.sample for file in files}
    return Reproduction(config, files, [one for one in source.samples() if one not in done])


class _Archive:
    """Raw tensors from an archive."""

    def __init__(self, archive: Path, config: str, profile: str | None) -> None:
        first = load_dataset(archive, config, profile=profile)
        self.profile = first.profile
        splits = [
            load_dataset(archive, config, profile=first.profile, split=split)
            for split in first.manifest.splits
        ]
        self._places = {name: (one, i) for one in splits for i, name in enumerate(one.ids())}
        self._dtypes = {
            key.name: getattr(torch, key.reference or key.captured)
            for key in first.manifest.declaration.keys
        }

    def samples(self) -> list[str]:
        return list(self._places)

    def tensors(
        self, file: RawFile
    ) -> tuple[Mapping[str, torch.Tensor], Mapping[str, torch.dtype]]:
        if file.sample not in self._places:
            raise SourceError(f"{file.path}: the archive has no sample {file.sample}")
        dataset, position = self._places[file.sample]
        return dataset[position]["features"], self._dtypes


class _Folder:
    """Raw tensors from raw files."""

    def __init__(self, folder: Path, config: str, profile: str) -> None:
        self.profile = profile
        self._release = open_release(folder, config, profile)
        self._files = {file.sample: file for file in self._release.files}

    def samples(self) -> list[str]:
        return list(self._files)

    def tensors(
        self, file: RawFile
    ) -> tuple[Mapping[str, torch.Tensor], Mapping[str, torch.dtype]]:
        if file.sample not in self._files:
            raise SourceError(f"{file.path}: there is no raw file of sample {file.sample}")
        features = self._release.features(self._files[file.sample])
        declared = {key.name: key.reference for key in self._release.declared.keys}
        return features, {
            key: getattr(torch, declared[key] or dtype_name(tensor))
            for key, tensor in features.items()
        }


def _check(
    release: Release,
    file: RawFile,
    raw: Mapping[str, torch.Tensor],
    dtypes: Mapping[str, torch.dtype],
) -> CodedFile:
    found = read_zst(file.path, most=release.most_bytes)
    try:
        if not (isinstance(found, dict) and {"features", "metadata"} <= found.keys()):
            raise SourceError("not a file after coding: expected features and metadata")
        metadata = found["metadata"]
        if not isinstance(metadata, dict):
            raise SourceError("its metadata are not a dict")
        skeleton, decoded = _decoded(release, found["features"])
        places = leaves(skeleton)
        entries = _entries(metadata, places)
        result = CodedFile(file.path, file.sample)
        parts: dict[str, ReferencePart] = {}
        details: list[Compared] = []
        for (where, leaf), tensor, entry in zip(places, decoded, entries, strict=True):
            part = _part(where, leaf, entry, (raw, dtypes), tensor, details)
            if part is not None:
                parts[where] = part
    except SourceError as error:
        raise SourceError(f"{file.path}: {error}") from None
    if len(parts) == len(places):
        numbers = reference_numbers(parts)
        result.figures += [
            Compared("", name, _number(metadata, name, file.path), numbers[f"{name}_ref"][0])
            for name in FILE_FIGURES
        ]
    result.figures += details
    return result


def _decoded(release: Release, found: Any) -> tuple[Any, list[torch.Tensor]]:
    """Decoded tensors, and the nest that they are in: that after coding, or the raw one."""
    scenario = release.scenario
    keys = [key.name for key in release.declared.keys]
    skeleton = coded_skeleton(scenario.family, scenario.task, keys)
    if skeleton != release.skeleton and isinstance(found, dict):
        first = next(iter(release.skeleton))
        skeleton = release.skeleton if first in found else skeleton
    # By place, not by key: the two copies of a tensor may have been coded apart.
    return skeleton, [tensor for _, _, tensor in tensors_in(skeleton, found)]


def _entries(
    metadata: Mapping[Any, Any], places: Sequence[tuple[str, Leaf]]
) -> list[Mapping[Any, Any]]:
    """Metadata of each tensor, found by name, or by order where names say nothing."""
    found = list(_walk(metadata, "", set()))
    if len(found) != len(places):
        raise SourceError(f"its metadata describe {len(found)} tensors, it holds {len(places)}")
    by_name = []
    for where, leaf in places:
        names = {_plain(where), _plain(leaf.key)}
        mine = [
            entry
            for path, entry in found
            if any(f".{_plain(path)}".endswith(f".{name}") for name in names)
        ]
        by_name += mine if len(mine) == 1 else []
    if len({id(entry) for entry in by_name}) == len(places):
        return by_name
    return [entry for _, entry in found]


def _walk(value: Any, where: str, seen: set[int]) -> Iterator[tuple[str, Mapping[Any, Any]]]:
    # Each container once: a hostile file may hold itself.
    if not isinstance(value, (dict, list, tuple)) or id(value) in seen or len(seen) > MOST_PARTS:
        return
    seen.add(id(value))
    if isinstance(value, dict):
        if "enc_bytes" in value:
            yield where, value
            return
        for name, part in value.items():
            yield from _walk(part, f"{where}.{name}", seen)
    else:
        for number, part in enumerate(value):
            yield from _walk(part, f"{where}.{number}", seen)


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", ".", name.lower()).strip(".")


def _part(
    where: str,
    leaf: Leaf,
    entry: Mapping[Any, Any],
    source: tuple[Mapping[str, torch.Tensor], Mapping[str, torch.dtype]],
    decoded: torch.Tensor,
    details: list[Compared],
) -> ReferencePart | None:
    """Compare one tensor's metadata; None if what was decoded cannot be compared."""
    raw, dtype = source[0][leaf.key], source[1][leaf.key]
    shape = list(raw[None].shape if leaf.batched else raw.shape)
    now = list(decoded[None].shape if leaf.batched else decoded.shape)
    if now != shape:
        details.append(Compared(where, "shape", now, shape))
        return None
    num_bytes = _number(entry, "enc_bytes", where)
    if num_bytes is None:
        raise SourceError(f"{where}: no enc_bytes")
    said_shape = entry.get("ori_shape")
    if said_shape is not None:
        # A leading 1 may be left out: it is no value.
        sequence = isinstance(said_shape, (list, tuple)) and len(said_shape) < 16
        sizes = [n for n in said_shape if isinstance(n, int)] if sequence else []
        same = [n for n in sizes if n != 1] == [n for n in shape if n != 1]
        details.append(Compared(where, "ori_shape", shape if same else sizes, shape))
    if entry.get("ori_dtype") is not None:
        named = entry["ori_dtype"]
        named = str(named).removeprefix("torch.") if isinstance(named, (str, torch.dtype)) else "?"
        details.append(Compared(where, "ori_dtype", named, dtype_name(raw)))
    error = squared_error(raw, decoded, dtype)
    numbers = {
        "ori_numel": raw.numel(),
        "enc_bpfp": 8 * num_bytes / raw.numel(),
        "final_mse": error / raw.numel(),
    }
    details += [
        Compared(where, name, said, value)
        for name, value in numbers.items()
        if (said := _number(entry, name, where)) is not None or name != "ori_numel"
    ]
    return ReferencePart(int(num_bytes), raw.numel(), 8 * dtype.itemsize, error)


def _number(entry: Mapping[Any, Any], name: str, where: object) -> float | None:
    value = entry.get(name)
    if value is None:
        return None
    if isinstance(value, torch.Tensor) and value.numel() == 1:
        value = value.item()
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise SourceError(f"{where}: {name} is a {type(value).__name__}, expected a number")
    return value
