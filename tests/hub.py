"""A local Hub: what the real client asks for data sets, over HTTP, with faults on demand.

Blobs, commits and refs lie in a folder, so another server on the same folder goes on where this one
ended. Text is kept as regular files and all else as LFS objects, as on the real one.
"""

import hashlib
import json
import threading
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.hub_http import Handler, Server
from tests.hub_parts import Fault, Request, is_text, write_json

__all__ = ["Fault", "LocalHub", "Request"]


class LocalHub:
    """Serves a folder of repositories until the context ends.

    Args:
        folder: where blobs and commits are kept.
        token: writing, and reading private repositories, needs it; None for no checks.
        redirect: whether LFS objects are answered by a redirect, as the real one does.
        verify: whether clients are told to have each uploaded object verified.

    Attributes:
        url: use it as ``endpoint`` or ``HF_ENDPOINT``, with ``HF_HUB_DISABLE_XET=1``.
        requests: every request since the last `reset`.
        faults: checked in order; the first that applies is injected.
    """

    def __init__(
        self, folder: Path, token: str | None = None, redirect: bool = True, verify: bool = True
    ) -> None:
        self.folder = folder
        self.token = token
        self.redirect = redirect
        self.verify = verify
        self.requests: list[Request] = []
        self.faults: list[Fault] = []
        self.lock = threading.RLock()
        self._snapshots: dict[str, dict[str, dict[str, Any]]] = {}
        (folder / "blobs").mkdir(parents=True, exist_ok=True)
        self._server = Server(("127.0.0.1", 0), Handler)
        self._server.hub = self
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def sent(self) -> int:
        """Bytes of all bodies that were sent."""
        return sum(request.sent for request in self.requests)

    @property
    def received(self) -> int:
        """Bytes of all uploaded LFS objects (bodies of PUT)."""
        return sum(request.received for request in self.requests if request.method == "PUT")

    def reset(self) -> None:
        """Forget requests and faults."""
        with self.lock:
            self.requests.clear()
            self.faults.clear()

    def seen(self, method: str, part: str = "") -> list[Request]:
        """Requests of a method whose path holds a part."""
        return [r for r in self.requests if r.method == method and part in r.path]

    # What is stored

    def _repo(self, repo: str) -> Path:
        return self.folder / "repos" / repo

    def create(self, repo: str, private: bool = False) -> bool:
        """Make an empty repository; False if there is one."""
        folder = self._repo(repo)
        if folder.is_dir():
            return False
        (folder / "commits").mkdir(parents=True)
        write_json(folder / "repo.json", {"private": private})
        write_json(folder / "refs.json", {"branches": {}, "tags": {}})
        self.commit(repo, {}, "initial commit")
        return True

    def refs(self, repo: str) -> dict[str, dict[str, str]]:
        """Commit by name, of ``branches`` and ``tags``."""
        found: dict[str, dict[str, str]] = json.loads((self._repo(repo) / "refs.json").read_text())
        return found

    def resolve(self, repo: str, revision: str) -> str | None:
        """The commit that a branch, tag or commit id means."""
        refs = self.refs(repo)
        oid = refs["branches"].get(revision) or refs["tags"].get(revision) or revision
        return oid if (self._repo(repo) / "commits" / f"{oid}.json").is_file() else None

    def files(self, repo: str, revision: str = "main") -> dict[str, dict[str, Any]]:
        """Every file of a revision: ``sha256``, ``size``, ``oid`` and ``lfs`` by path."""
        oid = str(self.resolve(repo, revision))
        if oid not in self._snapshots:
            path = self._repo(repo) / "commits" / f"{oid}.json"
            # Commits never change, so those that were read once are kept.
            self._snapshots[oid] = json.loads(path.read_text())["files"]
        return self._snapshots[oid]

    def read(self, repo: str, path: str, revision: str = "main") -> bytes:
        """Contents of a file."""
        return self.blob(self.files(repo, revision)[path]["sha256"]).read_bytes()

    def commits(self, repo: str) -> list[str]:
        """Titles of the commits of ``main``, the first one first."""
        titles, oid = [], self.refs(repo)["branches"].get("main")
        while oid:
            commit = json.loads((self._repo(repo) / "commits" / f"{oid}.json").read_text())
            titles.append(commit["title"])
            oid = commit["parent"]
        return titles[::-1]

    def blob(self, sha256: str) -> Path:
        """Where an object is kept."""
        return self.folder / "blobs" / sha256

    def put(self, repo: str, files: dict[str, bytes | None], title: str = "by hand") -> str:
        """Commit contents straight into ``main``; None deletes."""
        now = dict(self.files(repo))
        for path, data in files.items():
            if data is None:
                del now[path]
            else:
                now[path] = self.store(data, lfs=not is_text(data[:512]))
        return self.commit(repo, now, title)

    def store(self, data: bytes, lfs: bool) -> dict[str, Any]:
        digest = hashlib.sha256(data).hexdigest()
        self.blob(digest).write_bytes(data)
        return self.entry(digest, len(data), lfs)

    def entry(self, sha256: str, size: int, lfs: bool) -> dict[str, Any]:
        """A file's record; its ``oid`` is git's, of the contents or of the LFS pointer."""
        if lfs:
            text = f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {size}\n"
            data = text.encode()
        else:
            data = self.blob(sha256).read_bytes()
        oid = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
        return {"sha256": sha256, "size": size, "oid": oid, "lfs": lfs}

    def commit(self, repo: str, files: dict[str, dict[str, Any]], title: str) -> str:
        """Make a snapshot the head of ``main``."""
        with self.lock:
            refs = self.refs(repo)
            body = {"parent": refs["branches"].get("main"), "title": title, "files": files}
            oid = hashlib.sha1(json.dumps(body, sort_keys=True).encode()).hexdigest()
            write_json(self._repo(repo) / "commits" / f"{oid}.json", body)
            refs["branches"]["main"] = oid
            write_json(self._repo(repo) / "refs.json", refs)
            return oid

    def tag(self, repo: str, name: str, oid: str) -> bool:
        """Name a commit; False if the name is taken."""
        with self.lock:
            refs = self.refs(repo)
            if name in refs["tags"]:
                return False
            refs["tags"][name] = oid
            write_json(self._repo(repo) / "refs.json", refs)
            return True

    def is_private(self, repo: str) -> bool:
        """Whether reading needs the token."""
        return bool(json.loads((self._repo(repo) / "repo.json").read_text())["private"])

    def exists(self, repo: str) -> bool:
        """Whether there is such a repository."""
        return (self._repo(repo) / "refs.json").is_file()
