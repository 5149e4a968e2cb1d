"""Exact byte ranges of the files of a data-set repository, over HTTP.

A repository's files answer at ``<endpoint>/datasets/<repo>/resolve/<revision>/<path>``, large ones
by a redirect to a store of another host. Answers are believed only if they are what was asked for;
everything else is asked again, with pauses, a few times.
"""

import email.utils
import os
import random
import re
import threading
import time
import urllib.parse
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import httpx2 as httpx

from lamofcbench.errors import ArchiveNotFoundError, HubError
from lamofcbench.store.lanes import Lanes

__all__ = ["MissingFile", "RangeClient", "coalesce", "default_endpoint", "retrying"]

# Less than what another request costs in headers and waiting, even to a server nearby.
GAP_BYTES = 1024
# Larger ranges are cut, for one connection seldom fills a link.
PIECE_BYTES = 8 << 20
CONNECTIONS = 16
ATTEMPTS = 7
FIRST_PAUSE = 0.25
# Whoever is told to wait longer than this should come back another time.
LONGEST_PAUSE = 120.0
# Redirects carry a signature that expires; well before that, they are asked for again.
REDIRECT_SECONDS = 300.0
MAX_REDIRECTS = 5
PASSING = {408, 425, 429, 500, 502, 503, 504}

Range = tuple[int, int]
Result = TypeVar("Result")

_lock = threading.Lock()
# Of the process that this one was forked from: closing them could wait for its locks for ever.
_inherited: list["_Connections"] = []


def _renew_lock() -> None:
    global _lock
    _lock = threading.Lock()


os.register_at_fork(after_in_child=_renew_lock)


class MissingFile(Exception):
    """The repository has no such file at that revision."""


class Mistaken(Exception):
    """What came is not what was asked for; asking again may help.

    Attributes:
        pause: seconds that the server wants to be left alone, if it says so.
    """

    def __init__(self, what: str, pause: float | None = None) -> None:
        """Say what came."""
        super().__init__(what)
        self.pause = pause


def default_endpoint() -> str:
    """The Hub's address: ``$HF_ENDPOINT``, else what huggingface_hub uses."""
    from huggingface_hub import constants

    return (os.environ.get("HF_ENDPOINT") or constants.ENDPOINT).rstrip("/")


def coalesce(ranges: Sequence[Range], gap: int = GAP_BYTES) -> list[Range]:
    """Join ranges, ``(start, stop)`` in any order, that lie at most ``gap`` bytes apart."""
    joined: list[Range] = []
    for start, stop in sorted(ranges):
        if joined and start - joined[-1][1] <= gap:
            joined[-1] = joined[-1][0], max(stop, joined[-1][1])
        else:
            joined.append((start, stop))
    return joined


def retrying(what: str, read: Callable[[], Result]) -> Result:
    """Read until it works, with growing pauses, at most `ATTEMPTS` times.

    Args:
        what: is read, for the message.
        read: raises `Mistaken` or a transport error where another attempt may help.

    Raises:
        HubError: the last attempt failed as well.
    """
    fault, pause = "", FIRST_PAUSE
    for attempt in range(ATTEMPTS):
        try:
            return read()
        except Mistaken as error:
            fault, asked = str(error), error.pause
        except httpx.TransportError as error:
            # Its text names the kind of failure; an empty one leaves only its class.
            fault, asked = str(error) or type(error).__name__, None
        if asked is not None and asked > LONGEST_PAUSE:
            raise HubError(f"{what}: {fault}; it asks to wait {asked:.0f} s. Try again later")
        if attempt < ATTEMPTS - 1:
            # Spread, so that clients that failed together do not come back together.
            time.sleep(asked if asked is not None else pause * random.uniform(0.75, 1.25))
            pause *= 2
    raise HubError(f"{what}: {fault}, {ATTEMPTS} times. Check the network, or try again later")


@dataclass
class _Answer:
    body: bytes
    commit: str | None
    total: int


@dataclass(eq=False)
class _Connections:
    """What belongs to one process: a pool of connections, the token, where files were found."""

    pid: int
    client: httpx.Client
    token: str | None = field(repr=False)
    found: dict[str, tuple[str, float]] = field(default_factory=dict, repr=False)


class RangeClient:
    """Reads ranges of files of one repository.

    Safe under threads and forks. It pickles as names: connections and the token, which comes from
    `huggingface_hub.get_token`, are looked up in each process and kept nowhere else.
    """

    def __init__(self, endpoint: str, repo: str) -> None:
        """Name a repository, ``org/name``, at an endpoint, ``https://…``; asks nothing yet."""
        self.endpoint = endpoint
        self.repo = repo
        self._own: _Connections | None = None
        self._lanes = Lanes(CONNECTIONS)

    def __reduce__(self) -> tuple[Any, ...]:
        """Keep only the names."""
        return RangeClient, (self.endpoint, self.repo)

    def __repr__(self) -> str:
        """Name the repository."""
        return f"RangeClient({self.endpoint!r}, {self.repo!r})"

    @property
    def _connections(self) -> _Connections:
        with _lock:
            if self._own is not None and self._own.pid != os.getpid():
                _inherited.append(self._own)
                self._own = None
            if self._own is None:
                self._own = self._connect()
            return self._own

    def _connect(self) -> _Connections:
        from huggingface_hub import constants, get_token

        if constants.is_offline_mode():
            raise HubError(f"{self.repo}: HF_HUB_OFFLINE is set, so nothing can be streamed")
        token = get_token()
        if token is not None and re.fullmatch(r"[!-~]+", token) is None:
            # What HTTP can't carry would be quoted in its error.
            raise HubError("the token for the Hub is malformed; run `hf auth login`")
        client = httpx.Client(
            limits=httpx.Limits(max_connections=CONNECTIONS),
            timeout=httpx.Timeout(30.0, pool=None),
            follow_redirects=False,
        )
        own = _Connections(os.getpid(), client, token)
        weakref.finalize(own, _close, client, own.pid)
        return own

    def read(self, path: str, revision: str, limit: int) -> tuple[bytes, str]:
        """Read a whole file.

        Args:
            path: in the repository.
            revision: branch, tag or commit.
            limit: bytes; a larger file is an error.

        Returns:
            Its bytes, and the commit that the revision means.

        Raises:
            MissingFile: there is none.
            ArchiveNotFoundError: there is no such repository or revision, or it is not shown.
            HubError: it can't be read.
        """

        def read() -> _Answer:
            return self._ask(path, revision, None, limit)

        answer = retrying(self._name(path), read)
        commit = revision if _is_commit(revision) else answer.commit
        if commit is None or not _is_commit(commit):
            raise HubError(f"{self.endpoint} does not say which commit {revision} is: not a Hub")
        return answer.body, commit

    def ranges(
        self, path: str, revision: str, size: int, ranges: Sequence[Range], sha256: str = ""
    ) -> list[memoryview]:
        """Read ranges of a file, at once, near ones together.

        Args:
            path: in the repository.
            revision: a commit.
            size: bytes that the file is known to have.
            ranges: ``(start, stop)``, within the file.
            sha256: that the file is known to have, compared where the Hub states one.

        Returns:
            A view for each range.

        Raises:
            MissingFile: there is no such file.
            ArchiveNotFoundError: the repository or revision is gone, or not shown any more.
            HubError: it can't be read.
        """
        runs = coalesce([r for r in ranges if r[0] < r[1]])
        pieces = [
            (start, min(start + PIECE_BYTES, stop))
            for first, stop in runs
            for start in range(first, stop, PIECE_BYTES)
        ]

        def get(piece: Range) -> bytes:
            def read() -> _Answer:
                answer = self._ask(path, revision, piece, piece[1] - piece[0], sha256)
                if answer.total != size:
                    raise Mistaken(f"the file has {answer.total} bytes, expected {size}")
                return answer

            return retrying(self._name(path), read).body

        bodies = dict(zip(pieces, self._lanes.map(get, pieces), strict=True))
        whole = {
            run: memoryview(
                b"".join(body for piece, body in bodies.items() if run[0] <= piece[0] < run[1])
                if run not in bodies
                else bodies[run]
            )
            for run in runs
        }
        views = []
        for start, stop in ranges:
            run = next((r for r in runs if r[0] <= start and stop <= r[1]), None)
            views.append(whole[run][start - run[0] : stop - run[0]] if run else memoryview(b""))
        return views

    def _name(self, path: str) -> str:
        return f"{self.repo}/{path}"

    def _ask(
        self, path: str, revision: str, wanted: Range | None, most: int, sha256: str = ""
    ) -> _Answer:
        """Ask once, following redirects; only the endpoint itself is shown the token."""
        own = self._connections
        first = (
            f"{self.endpoint}/datasets/{self.repo}/resolve/"
            f"{urllib.parse.quote(revision, safe='')}/{urllib.parse.quote(path)}"
        )
        url, known = first, False
        if wanted is not None and first in own.found:
            place, since = own.found[first]
            if time.monotonic() - since < REDIRECT_SECONDS:
                url, known = place, True
        commit: str | None = None
        for _ in range(MAX_REDIRECTS + 1):
            headers = {"Accept-Encoding": "identity", "User-Agent": "lamofcbench"}
            if wanted is not None:
                headers["Range"] = f"bytes={wanted[0]}-{wanted[1] - 1}"
            if own.token and _origin(url) == _origin(self.endpoint):
                headers["Authorization"] = f"Bearer {own.token}"
            with own.client.stream("GET", url, headers=headers) as response:
                status = response.status_code
                commit = commit or response.headers.get("X-Repo-Commit")
                _check_hash(response, sha256)
                if status >= 300 and int(response.headers.get("Content-Length", 1 << 20)) <= 65536:
                    # A connection serves again only once its answer is read to the end.
                    response.read()
                if status in (301, 302, 303, 307, 308):
                    place = response.headers.get("Location", "")
                    url = urllib.parse.urljoin(url, place)
                    secure = first.startswith("https:")
                    if not place or not url.startswith("https:" if secure else ("https:", "http:")):
                        raise Mistaken("a redirect to nowhere, or to an insecure place")
                    continue
                if status >= 400:
                    if _origin(url) != _origin(self.endpoint):
                        # Its signature has run out; the Hub gives a new one.
                        own.found.pop(first, None)
                        raise Mistaken(f"HTTP {status} after a redirect", 0 if known else None)
                    if status in PASSING:
                        raise Mistaken(f"HTTP {status}", _pause(response))
                    raise self._refusal(path, revision, response)
                body, total = _body(response, wanted, most)
            if wanted is not None and url != first and not known:
                own.found[first] = url, time.monotonic()
            return _Answer(body, commit, total)
        raise HubError(f"{self._name(path)}: more than {MAX_REDIRECTS} redirects")

    def _refusal(self, path: str, revision: str, response: httpx.Response) -> Exception:
        code = response.headers.get("X-Error-Code", "")
        if code == "EntryNotFound" or (response.status_code == 404 and not code):
            return MissingFile(path)
        if code == "RevisionNotFound":
            return ArchiveNotFoundError(
                f"{self.repo} at {self.endpoint} has no revision {revision}"
            )
        if code == "GatedRepo":
            return ArchiveNotFoundError(
                f"{self.repo} is gated: ask for access at {self.endpoint}/datasets/{self.repo}, "
                "then run `hf auth login`"
            )
        if code == "RepoNotFound" or response.status_code in (401, 403):
            return ArchiveNotFoundError(
                f"{self.repo}: {self.endpoint} has no such data set, or does not show it to you. "
                "If it is private, run `hf auth login` or set HF_TOKEN"
            )
        return HubError(f"{self._name(path)}: HTTP {response.status_code} {code}".rstrip())


def _close(client: httpx.Client, pid: int) -> None:
    if pid == os.getpid():
        client.close()


def _is_commit(revision: str) -> bool:
    return re.fullmatch("[0-9a-f]{40}", revision) is not None


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = urllib.parse.urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or {"https": 443}.get(parts.scheme, 80)


def _check_hash(response: httpx.Response, sha256: str) -> None:
    """Compare the hash that the Hub states for a large file, before any byte of it is used."""
    headers = response.headers
    stated = (headers.get("X-Linked-Etag") or headers.get("ETag") or "").strip('"')
    if sha256 and re.fullmatch("[0-9a-f]{64}", stated) and stated != sha256:
        raise Mistaken(f"the Hub holds another file, sha256 {stated}, expected {sha256}")


def _pause(response: httpx.Response) -> float | None:
    """Seconds to wait, from ``Retry-After``, which is a number or a date."""
    stated = response.headers.get("Retry-After", "")
    if re.fullmatch(r"\d+(\.\d+)?", stated):
        return float(stated)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(stated).timestamp() - time.time())
    except (TypeError, ValueError):
        return None


def _body(response: httpx.Response, wanted: Range | None, most: int) -> tuple[bytes, int]:
    """Read a body that is exactly what was asked for; its bytes, and the size of the whole file."""
    total = -1
    if wanted is not None:
        stated = response.headers.get("Content-Range", "")
        match = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+)", stated)
        if response.status_code != 206 or match is None:
            raise Mistaken(f"HTTP {response.status_code}, not the range that was asked for")
        start, last, total = (int(number) for number in match.groups())
        if (start, last + 1) != wanted:
            raise Mistaken(f"bytes {start}-{last}, asked for {wanted[0]}-{wanted[1] - 1}")
    elif response.status_code != 200:
        raise Mistaken(f"HTTP {response.status_code}, not the whole file")
    if response.headers.get("Content-Encoding", "identity") != "identity":
        raise Mistaken("a compressed body, which was not asked for")
    body = bytearray()
    for piece in response.iter_raw():
        body += piece
        if len(body) > most:
            raise Mistaken(f"more than the {most} bytes that were expected")
    if wanted is not None and len(body) != most:
        raise Mistaken(f"{len(body)} bytes of {most}")
    return bytes(body), total if total >= 0 else len(body)
