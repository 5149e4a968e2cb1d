"""Fetching one file: resumed, tried again, and taken only if its hash is right."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

from lamofcbench.atomic import sha256_file
from lamofcbench.errors import HubError, IntegrityError
from lamofcbench.hub.client import (
    ATTEMPTS,
    PASSING,
    backoff,
    endpoint,
    explain,
    headers,
    is_passing,
    utilities,
)
from lamofcbench.manifest import FileEntry

__all__ = ["download", "file_url", "read_small"]

SECONDS = 30.0
"""How long a connection may stay silent."""
WRONG = 3
"""How often a file may arrive with a wrong hash."""


def file_url(repo: str, revision: str, path: str) -> str:
    """Address of a file of a data set."""
    return f"{endpoint()}/datasets/{repo}/resolve/{quote(revision, safe='')}/{quote(path)}"


def _stream(url: str, more: dict[str, str]) -> Any:
    return (
        utilities()
        .get_session()
        .stream("GET", url, headers={**headers(), **more}, follow_redirects=True, timeout=SECONDS)
    )


def _asked(response: Any) -> float | None:
    try:
        return float(response.headers["Retry-After"])
    except (KeyError, ValueError):
        return None


def _refused(what: str, response: Any) -> HubError:
    try:
        response.read()
        utilities().hf_raise_for_status(response)
    except Exception as error:
        return explain(what, error)
    return HubError(f"{what}: {endpoint()} answers {response.status_code}")


def _explained(what: str, error: Exception) -> HubError:
    """A failure that another try may mend; anything else is raised."""
    if is_passing(error):
        return explain(what, error)
    if isinstance(error, OSError):
        # No room, no right to write, or told to stay offline.
        raise explain(what, error) from None
    raise error


def read_small(repo: str, revision: str, path: str, limit: int) -> tuple[bytes, str] | None:
    """Read a file into memory.

    Args:
        repo: ``org/name``.
        revision: tag, branch or commit.
        path: in the repository.
        limit: bytes that it may have.

    Returns:
        Its contents and the commit that the revision stands for; None if it has no such file.

    Raises:
        HubError: the repository or revision is not there, or the Hub cannot be reached.
    """
    what = f"{repo} at {revision}: {path}"
    for attempt in range(1, ATTEMPTS + 1):
        asked = None
        try:
            with _stream(file_url(repo, revision, path), {}) as response:
                if response.status_code in PASSING:
                    asked = _asked(response)
                    failure: HubError = _refused(what, response)
                elif response.headers.get("X-Error-Code") == "EntryNotFound":
                    return None
                elif response.status_code != 200:
                    raise _refused(what, response)
                else:
                    chain = [*response.history, response]
                    commits = [r.headers.get("X-Repo-Commit") for r in chain]
                    stated = int(response.headers.get("Content-Length") or 0)
                    data = bytearray()
                    for piece in response.iter_bytes():
                        data += piece
                        if max(len(data), stated) > limit:
                            raise HubError(f"{what}: more than the {limit} bytes it may have")
                    return bytes(data), next((c for c in commits if c), revision)
        except HubError:
            raise
        except Exception as error:
            failure = _explained(what, error)
        if attempt < ATTEMPTS:
            backoff(attempt, asked)
    raise failure


def download(
    repo: str,
    commit: str,
    path: str,
    entry: FileEntry,
    target: Path,
    progress: Callable[[int], object],
) -> None:
    """Fetch a file to a temporary place, going on with what is there already.

    Args:
        repo: ``org/name``.
        commit: that it is taken from.
        path: in the repository.
        entry: the size and hash that it must have.
        target: the temporary file; it is whole and durable afterwards.
        progress: called with the bytes of each piece.

    Raises:
        IntegrityError: the revision lacks the file, or it keeps arriving with a wrong hash.
        HubError: the Hub cannot be reached, or refuses.
    """
    what = f"{repo} at {commit}: {path}"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.touch()
    failed, wrong = 0, 0
    while True:
        have = target.stat().st_size
        asked, failure, other = None, None, have > entry.bytes
        if have == entry.bytes:
            if sha256_file(target) == entry.sha256:
                return
            other = True
        elif not other:
            try:
                asked, failure, other = _fetch(repo, commit, path, entry, target, have, progress)
            except (HubError, IntegrityError):
                raise
            except Exception as error:
                failure = _explained(what, error)
        got = target.stat().st_size
        if other:
            wrong += 1
            progress(-got)
            target.write_bytes(b"")
            if wrong == WRONG:
                raise IntegrityError(
                    f"{what}: its sha256 is not the manifest's. Pull another revision, or publish "
                    "it again with lamofcbench push"
                )
            continue
        failed = 0 if got > have else failed + 1
        if failed == ATTEMPTS:
            raise failure or HubError(
                f"{what}: its body ends after {got} of {entry.bytes} bytes, again and again. "
                "Run the same command again later to go on"
            )
        if got < entry.bytes:
            backoff(max(failed, 1), asked)


def _fetch(
    repo: str,
    commit: str,
    path: str,
    entry: FileEntry,
    target: Path,
    have: int,
    progress: Callable[[int], object],
) -> tuple[float | None, HubError | None, bool]:
    """One request, appended to what is there.

    Returns:
        Seconds that the Hub asks to wait, why it failed, and whether this cannot be the file.
    """
    what = f"{repo} at {commit}: {path}"
    more = {"Range": f"bytes={have}-"} if have else {}
    with _stream(file_url(repo, commit, path), more) as response:
        if response.status_code in PASSING:
            return _asked(response), _refused(what, response), False
        if response.status_code == 416:
            # It ends before it should.
            return None, None, True
        if response.headers.get("X-Error-Code") == "EntryNotFound":
            raise IntegrityError(
                f"{what}: the manifest names it, but it is not there: this revision was not "
                "published as a whole. Pull another one, or finish it with lamofcbench push"
            )
        resumed = have and response.headers.get("Content-Range", "").startswith(f"bytes {have}-")
        if response.status_code == 206 and not resumed:
            return None, HubError(f"{what}: answered with another range than asked for"), False
        if response.status_code not in (200, 206):
            raise _refused(what, response)
        if not resumed:
            progress(-have)
            have = 0
        with target.open("ab" if resumed else "wb") as file:
            for piece in response.iter_bytes():
                have += len(piece)
                file.write(piece)
                progress(len(piece))
                if have > entry.bytes:
                    return None, None, True
            file.flush()
            os.fsync(file.fileno())
    return None, None, False
