"""Finding an archive, and the stores in it."""

import json
import os
import re
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lamofcbench.errors import ArchiveNotFoundError, MiniatureArchiveWarning, UnknownNameError
from lamofcbench.spec import REPO, list_configs

__all__ = [
    "BUNDLED",
    "DEFAULT_ARCHIVE",
    "Place",
    "default_repo",
    "find_archive",
    "find_store",
    "is_store",
    "list_stores",
    "peek",
    "repo_folder",
    "resolve_archive",
]

DEFAULT_ARCHIVE = "lamofcbench"
ENVIRONMENT = "LAMOFCBENCH_ARCHIVE"
BUNDLED = Path(__file__).parent / "miniature"
"""The archive that comes with the package: a few test samples of each miniature."""
REPO_ENVIRONMENT = "LAMOFCBENCH_REPO"


def _cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "lamofcbench"


@dataclass(frozen=True)
class Place:
    """Where an archive is.

    Attributes:
        folder: of it; not there yet if nothing was pulled so far.
        repo: ``org/name`` if the folder keeps what is pulled from the Hub.
    """

    folder: Path
    repo: str | None = None


def repo_folder(repo: str) -> Path:
    """The folder of the user cache that keeps what is pulled from a repository."""
    return _cache() / "hub" / repo


def default_repo() -> str | None:
    """The configured Hub repository: ``$LAMOFCBENCH_REPO``."""
    return os.environ.get(REPO_ENVIRONMENT) or None


def find_archive(name: str | os.PathLike[str] = DEFAULT_ARCHIVE) -> Place:
    """Find an archive.

    Args:
        name: a folder, or ``"org/name"`` on the Hub, or ``"lamofcbench"`` for the default:
            ``$LAMOFCBENCH_ARCHIVE``, else ``./archive``, else the user cache, else
            ``$LAMOFCBENCH_REPO``, else the miniature archive that comes with the package, with a
            warning; the first that exists answers.

    Raises:
        ArchiveNotFoundError: there is none; the message has the command that makes one.
    """
    if str(name) != DEFAULT_ARCHIVE:
        if Path(name).is_dir():
            return Place(Path(name))
        if isinstance(name, str) and REPO.fullmatch(name):
            return Place(repo_folder(name), name)
        raise ArchiveNotFoundError(
            f"{name}: no such folder. To make an archive there: "
            f"make extract SCENARIO=vqa-mllm ARCHIVE={name}"
        )
    if chosen := os.environ.get(ENVIRONMENT):
        if not Path(chosen).is_dir():
            raise ArchiveNotFoundError(f"${ENVIRONMENT} names {chosen}, which is not a folder")
        return Place(Path(chosen))
    for folder in (Path("archive"), _cache() / "archive"):
        if folder.is_dir():
            return Place(folder)
    if repo := default_repo():
        return Place(repo_folder(repo), repo)
    nothing = (
        f"${ENVIRONMENT} is not set, neither ./archive nor {_cache() / 'archive'} exists, and "
        f"${REPO_ENVIRONMENT} names no repository"
    )
    making = "in the repository: make extract SCENARIO=vqa-mllm"
    if BUNDLED.is_dir():
        warnings.warn(
            f"{nothing}: using the miniature archive that comes with the package, a few test "
            f"samples of small models, to try things out. To make a whole one, {making}",
            MiniatureArchiveWarning,
            stacklevel=3,
        )
        return Place(BUNDLED)
    raise ArchiveNotFoundError(f"no archive: {nothing}. To make one, {making}")


def resolve_archive(name: str | os.PathLike[str] = DEFAULT_ARCHIVE) -> Path:
    """Find an archive's folder, fetching nothing; see `find_archive`.

    Raises:
        ArchiveNotFoundError: there is none, or nothing was pulled from it so far.
    """
    place = find_archive(name)
    if place.repo is not None and not place.folder.is_dir():
        raise ArchiveNotFoundError(
            f"{place.repo}: no such folder, and nothing was pulled from a repository of that name. "
            f"To fetch from it: lamofcbench pull vqa-mllm --repo {place.repo}"
        )
    return place.folder


def is_store(path: Path) -> bool:
    """Whether a folder holds a store, finished or not, damaged or not."""
    return any(
        (path / name).exists() for name in ("manifest.json", "features.zarr", ".work", ".pull")
    )


def list_stores(archive: Path) -> dict[str, list[str]]:
    """Profiles by config of all stores in an archive, in the order in which they are preferred."""
    found: dict[str, list[str]] = {}
    for folder in sorted(archive.glob("*/*")):
        if is_store(folder):
            found.setdefault(folder.parent.name, []).append(folder.name)
    return {config: sorted(profiles, key=_preference) for config, profiles in found.items()}


def _preference(profile: str) -> tuple[int, str]:
    order = 0 if profile == "full" else 1 if re.match("x-", profile) else 2
    return order, profile


def peek(store: Path) -> dict[str, Any]:
    """A quick look at a store, without checking it: state, samples, bytes.

    ``state`` is ``complete``, ``partial`` (some of it was pulled), ``unfinished`` or ``damaged``;
    the counts are those of the whole store, None without a manifest.
    """
    empty = {"samples": None, "skipped": None, "bytes": None, "raw_bytes": None}
    try:
        totals = json.loads((store / "manifest.json").read_bytes())["totals"]
        state = "partial" if (store / "pulled.json").exists() else "complete"
        return {"state": state, **{name: int(totals[name]) for name in empty}}
    except FileNotFoundError:
        begun = (store / ".work").is_dir() or (store / ".pull").is_dir()
        state = "unfinished" if begun else "damaged"
    except (ValueError, KeyError, TypeError):
        state = "damaged"
    return {"state": state, **empty}


def find_store(archive: Path, config: str, profile: str | None = None) -> Path:
    """Find the store of a config.

    Args:
        archive: its folder.
        config: such as ``vqa-mllm``.
        profile: ``tiny``, ``full`` or ``x-<slug>``; by default full before x before tiny.

    Raises:
        UnknownNameError: no config of that name exists.
        ArchiveNotFoundError: the archive lacks it; the message has the command that makes it.
    """
    stores = list_stores(archive)
    if config not in stores:
        if config not in (known := list_configs()):
            raise UnknownNameError("config", config, {*known, *stores})
        raise ArchiveNotFoundError(
            f"{archive} has no {config}. To make it: "
            f"make extract SCENARIO={config}{_arguments(profile, archive)}"
        )
    if profile is None:
        return archive / config / stores[config][0]
    if profile not in stores[config]:
        if profile not in ("tiny", "full") and not profile.startswith("x-"):
            raise UnknownNameError(f"profile of {config}", profile, stores[config])
        raise ArchiveNotFoundError(
            f"{archive} has {config} as {', '.join(stores[config])}, not as {profile}. "
            f"To make it: make extract SCENARIO={config}{_arguments(profile, archive)}"
        )
    return archive / config / profile


def _arguments(profile: str | None, archive: Path) -> str:
    chosen = f" PROFILE={profile}" if profile is not None else ""
    return chosen + ("" if archive == Path("archive") else f" ARCHIVE={archive}")
