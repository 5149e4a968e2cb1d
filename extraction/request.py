"""Turns a declaration and a loaded model into the draft of a manifest: what is asked for."""

import datetime
import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path

from lamofcbench import __version__
from lamofcbench.atomic import canonical_json, sha256_bytes
from lamofcbench.layout import build_layouts
from lamofcbench.manifest import (
    FORMAT_VERSION,
    ArrayEntry,
    CaptureEntry,
    Draft,
    ModelEntry,
    SourceEntry,
)
from lamofcbench.models.base import Family
from lamofcbench.spec import SPLITS, ProfileSpec, ScenarioSpec

__all__ = ["array_entries", "build_draft", "request_sha256"]

LIBRARIES = ("torch", "transformers", "diffusers", "numpy", "numcodecs", "pyarrow", "scikit-learn")


def build_draft(
    scenario: ScenarioSpec, name: str, profile: ProfileSpec, model: Family, device: str
) -> Draft:
    """Describe a run before its first sample.

    Args:
        scenario: the config's declaration.
        name: the profile's name.
        profile: the profile as it is run, its sample counts final.
        model: the loaded front half.
        device: where it runs.
    """
    splits = {split: getattr(profile.samples, split) for split in SPLITS}
    splits = {split: count for split, count in splits.items() if count}
    source = profile.source
    return Draft(
        format_version=FORMAT_VERSION,
        config=scenario.config,
        profile=name,
        category=scenario.category,
        title=scenario.title,
        model=ModelEntry(
            id=profile.model.id,
            revision=model.revision,
            family=scenario.family,
            licence=profile.model.licence,
            parameters_loaded=model.parameters_loaded,
            parameters_total=model.parameters_total,
        ),
        split_point=profile.split_point,
        source=SourceEntry(**source.model_dump(exclude={"name"})),
        capture=CaptureEntry(
            device=device,
            dtype=profile.model.dtype,
            versions=_versions(),
            seed=source.seed,
            git_commit=_git_commit(),
            date=_today(),
        ),
        declaration=profile,
        request_sha256=request_sha256(scenario.config, name, profile, model.revision),
        splits=splits,
        **array_entries(profile, name, sum(splits.values())),
    )


def request_sha256(config: str, name: str, profile: ProfileSpec, revision: str) -> str:
    """Hash of what is asked for, and never of when: equal requests give equal bytes."""
    asked = {
        "format_version": FORMAT_VERSION,
        "config": config,
        "profile": name,
        "declaration": profile.model_dump(mode="json"),
        "model_revision": revision,
    }
    return sha256_bytes(canonical_json(asked))


def array_entries(
    profile: ProfileSpec, name: str, samples: int
) -> dict[str, dict[str, ArrayEntry]]:
    """How a manifest describes its arrays, by group: keys, context, reference."""
    layouts = build_layouts(profile, name, samples)
    entries = {path: ArrayEntry(**layout.to_manifest()) for path, layout in layouts.items()}
    return {
        "keys": {path: entry for path, entry in entries.items() if "/" not in path},
        "context": _below(entries, "context/"),
        "reference": _below(entries, "reference/"),
    }


def _below(entries: dict[str, ArrayEntry], prefix: str) -> dict[str, ArrayEntry]:
    return {
        path.removeprefix(prefix): entry
        for path, entry in entries.items()
        if path.startswith(prefix)
    }


def _versions() -> dict[str, str]:
    found = {"lamofcbench": __version__, "python": platform.python_version()}
    for library in LIBRARIES:
        try:
            found[library] = importlib.metadata.version(library)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _git_commit() -> str | None:
    try:
        done = subprocess.run(
            ["git", "rev-parse", "HEAD"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


def _today() -> str:
    epoch = os.environ.get("SOURCE_DATE_EPOCH")
    moment = (
        datetime.datetime.fromtimestamp(int(epoch), datetime.UTC)
        if epoch
        else datetime.datetime.now(datetime.UTC)
    )
    return moment.date().isoformat()
