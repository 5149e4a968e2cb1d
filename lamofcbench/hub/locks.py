"""Lock files: what was published, so that downloads can be checked against it."""

import json
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from lamofcbench.atomic import write_bytes
from lamofcbench.errors import IntegrityError

__all__ = ["LOCKS", "Lock", "load_lock", "write_lock"]

LOCKS = Path("manifests")
BUNDLED = Path(__file__).parents[1] / "manifests"


class Lock(BaseModel):
    """One published store.

    Attributes:
        repo: where it was published.
        revision: the tag, which never moves.
        manifest_sha256: of its manifest.
        content_hash: of its contents.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    repo: str
    revision: str
    manifest_sha256: str
    content_hash: str


def write_lock(folder: Path, config: str, profile: str, lock: Lock) -> None:
    """Keep what was published as ``<folder>/<config>/<profile>.json``."""
    body = json.dumps(lock.model_dump(), indent=2) + "\n"
    path = folder / config / f"{profile}.json"
    if not path.is_file() or path.read_text("utf-8") != body:
        write_bytes(path, body.encode())


def load_lock(repo: str, config: str, profile: str, folder: Path | None = None) -> Lock | None:
    """The lock file of a store of a repository, if there is one.

    Args:
        repo: where the store is fetched from; lock files of others don't count.
        config: such as ``arc-llm``.
        profile: such as ``full``.
        folder: where lock files are; by default ``./manifests``, else what the package ships.

    Raises:
        IntegrityError: the file is malformed.
    """
    for place in [folder] if folder is not None else [LOCKS, BUNDLED]:
        path = place / config / f"{profile}.json"
        if not path.is_file():
            continue
        try:
            lock = Lock.model_validate_json(path.read_bytes())
        except ValidationError as error:
            raise IntegrityError(f"{path}: not a lock file: {error.errors()[0]['msg']}") from None
        if lock.repo == repo:
            return lock
    return None
