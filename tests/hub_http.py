"""What the local Hub says: one method an endpoint."""

import base64
import contextlib
import hashlib
import json
import re
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.hub_parts import PIECE, Request, is_text

if TYPE_CHECKING:
    from tests.hub import LocalHub

PAGE = 100


class Server(ThreadingHTTPServer):
    hub: "LocalHub"
    daemon_threads = True
    block_on_close = False
    request_queue_size = 64

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Stay silent when a client goes away."""


class _Answer(Exception):
    """Ends a request with an error, as the real Hub words it."""

    def __init__(self, status: int, code: str, message: str = "") -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message or code


class Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, format: str, *args: Any) -> None:
        """Keep quiet."""

    @property
    def hub(self) -> "LocalHub":
        return self.server.hub

    def _handle(self) -> None:
        hub = self.hub
        self.url = urllib.parse.urlsplit(self.path)
        self.query = urllib.parse.parse_qs(self.url.query)
        bearer = self.headers.get("Authorization", "")
        self.seen = Request(self.command, self.path, self.headers.get("Range"), bool(bearer))
        self.allowed = hub.token is None or bearer == f"Bearer {hub.token}"
        with hub.lock:
            hub.requests.append(self.seen)
            self.fault = next((f for f in hub.faults if f.applies(self.seen)), None)
        kind = self.fault.kind if self.fault else ""
        try:
            body = self._body(kind)
            if body is None:
                self.close_connection = True
                return
            if self.fault and kind in ("429", "503"):
                waiting = {"Retry-After": f"{self.fault.retry_after:g}"} if kind == "429" else {}
                self._reply(int(kind), b"try again", waiting)
                return
            self._route(urllib.parse.unquote(self.url.path), body)
        except _Answer as answer:
            headers = {"X-Error-Code": answer.code, "X-Error-Message": answer.message}
            self._reply(answer.status, json.dumps({"error": answer.message}).encode(), headers)

    do_GET = do_HEAD = do_POST = do_PUT = _handle

    def _body(self, kind: str) -> bytes | None:
        """The request's body; None if the connection is to be cut in its middle."""
        pieces = []
        for piece in self._pieces():
            pieces.append(piece)
            self.seen.received += len(piece)
            if kind == "slow" and self.fault and self.command == "PUT":
                time.sleep(self.fault.seconds)
            if kind == "drop" and self.command in ("PUT", "POST"):
                return None
        return b"".join(pieces)

    def _pieces(self) -> Iterator[bytes]:
        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            while size := int(self.rfile.readline().split(b";")[0], 16):
                yield self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return
        left = int(self.headers.get("Content-Length") or 0)
        while left and (piece := self.rfile.read(min(left, PIECE))):
            left -= len(piece)
            yield piece

    def _reply(
        self,
        status: int,
        data: bytes,
        headers: dict[str, str] | None = None,
        size: int | None = None,
    ) -> None:
        kind = self.fault.kind if self.fault else ""
        piece = self.fault.piece if self.fault and kind == "slow" else max(1, len(data))
        if status < 300 and data:
            if kind == "truncate":
                data = data[: len(data) // 2]
            elif kind == "corrupt":
                data = data[:-1] + bytes([data[-1] ^ 1])
        self.seen.status = status
        self.send_response(status)
        self.send_header("Content-Length", str(len(data) if self.command != "HEAD" else size or 0))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        with contextlib.suppress(OSError):
            if kind == "drop":
                self.close_connection = True
                data = data[: len(data) // 2]
            for start in range(0, len(data), piece):
                if kind == "slow" and self.fault:
                    time.sleep(self.fault.seconds)
                self.wfile.write(data[start : start + piece])
                self.seen.sent += len(data[start : start + piece])

    def _json(self, value: Any, headers: dict[str, str] | None = None) -> None:
        self._reply(
            200, json.dumps(value).encode(), {"Content-Type": "application/json", **(headers or {})}
        )

    # What is asked

    def _route(self, path: str, body: bytes) -> None:
        for pattern, method in _ROUTES:
            if match := re.fullmatch(pattern, path):
                method(self, body, **match.groupdict())
                return
        raise _Answer(404, "NotFound", f"no such endpoint: {self.command} {path}")

    def _writable(self) -> None:
        if not self.allowed:
            raise _Answer(401, "Unauthorized", "Invalid username or password.")

    def _readable(self, repo: str) -> None:
        if not self.hub.exists(repo) or (self.hub.is_private(repo) and not self.allowed):
            raise _Answer(404, "RepoNotFound", "Repository not found")

    def _commit_of(self, repo: str, revision: str) -> str:
        self._readable(repo)
        oid = self.hub.resolve(repo, urllib.parse.unquote(revision))
        if oid is None:
            raise _Answer(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return oid

    def whoami(self, body: bytes) -> None:
        self._writable()
        self._json({"type": "user", "name": "tester", "fullname": "A tester", "orgs": []})

    def validate(self, body: bytes) -> None:
        self._json({"errors": [], "warnings": []})

    def create(self, body: bytes) -> None:
        self._writable()
        asked = json.loads(body)
        repo = f"{asked['organization'] or 'tester'}/{asked['name']}"
        private = bool(asked.get("private")) or asked.get("visibility") == "private"
        made = self.hub.create(repo, private)
        answer = {"url": f"{self.hub.url}/datasets/{repo}", "name": repo, "id": repo}
        self._reply(200 if made else 409, json.dumps(answer).encode())

    def preupload(self, body: bytes, repo: str, revision: str) -> None:
        self._writable()
        there = self.hub.files(repo, self._commit_of(repo, revision))
        answers = []
        for asked in json.loads(body)["files"]:
            text = is_text(base64.b64decode(asked["sample"])) and asked["size"] < 10_000_000
            entry = there.get(asked["path"])
            oid = entry and (entry["sha256"] if entry["lfs"] else entry["oid"])
            mode = "regular" if text else "lfs"
            answers.append(
                {"path": asked["path"], "uploadMode": mode, "shouldIgnore": False, "oid": oid}
            )
        self._json({"files": answers})

    def batch(self, body: bytes, repo: str) -> None:
        self._writable()
        self._readable(repo)
        objects = []
        for asked in json.loads(body)["objects"]:
            answer = {"oid": asked["oid"], "size": asked["size"]}
            if not self.hub.blob(asked["oid"]).is_file():
                actions = {"upload": {"href": f"{self.hub.url}/upload/{asked['oid']}"}}
                if self.hub.verify:
                    actions["verify"] = {"href": f"{self.hub.url}/verify/{repo}"}
                answer["actions"] = actions
            objects.append(answer)
        self._json({"transfer": "basic", "objects": objects})

    def upload(self, body: bytes, oid: str) -> None:
        if hashlib.sha256(body).hexdigest() != oid:
            raise _Answer(400, "BadDigest", "the body is not the object")
        temporary = self.hub.blob(f".{oid}.{threading.get_ident()}")
        temporary.write_bytes(body)
        temporary.replace(self.hub.blob(oid))
        self._reply(200, b"", {"ETag": f'"{oid}"'})

    def verify(self, body: bytes, repo: str) -> None:
        asked = json.loads(body)
        blob = self.hub.blob(asked["oid"])
        if not blob.is_file() or blob.stat().st_size != asked["size"]:
            raise _Answer(404, "EntryNotFound", "no such object")
        self._json({})

    def commit(self, body: bytes, repo: str, revision: str) -> None:
        self._writable()
        lines = [json.loads(line) for line in body.splitlines()]
        with self.hub.lock:
            head = self._commit_of(repo, revision)
            files = dict(self.hub.files(repo, head))
            title = "?"
            for line in lines:
                value = line["value"]
                if line["key"] == "header":
                    title = value["summary"]
                    if value.get("parentCommit") not in (None, head):
                        raise _Answer(412, "PreconditionFailed", "main has moved on")
                elif line["key"] == "file":
                    data = base64.b64decode(value["content"])
                    files[value["path"]] = self.hub.store(data, lfs=False)
                elif line["key"] == "lfsFile":
                    if not self.hub.blob(value["oid"]).is_file():
                        raise _Answer(422, "MissingObject", f"no LFS object for {value['path']}")
                    files[value["path"]] = self.hub.entry(value["oid"], value["size"], lfs=True)
                elif files.pop(value["path"], None) is None:
                    raise _Answer(404, "EntryNotFound", "A file with this name doesn't exist")
            oid = self.hub.commit(repo, files, title)
        self._json(
            {
                "success": True,
                "commitOid": oid,
                "commitUrl": f"{self.hub.url}/datasets/{repo}/commit/{oid}",
            }
        )

    def refs(self, body: bytes, repo: str) -> None:
        self._readable(repo)
        found = self.hub.refs(repo)

        def listed(kind: str, prefix: str) -> list[dict[str, str]]:
            return [
                {"name": name, "ref": f"refs/{prefix}/{name}", "targetCommit": oid}
                for name, oid in found[kind].items()
            ]

        branches, tags = listed("branches", "heads"), listed("tags", "tags")
        self._json({"branches": branches, "tags": tags, "converts": [], "pullRequests": []})

    def tag(self, body: bytes, repo: str, revision: str) -> None:
        self._writable()
        if not self.hub.tag(repo, json.loads(body)["tag"], self._commit_of(repo, revision)):
            raise _Answer(409, "Conflict", "Tag reference exists already")
        self._json({})

    def info(self, body: bytes, repo: str, revision: str = "main") -> None:
        oid = self._commit_of(repo, revision)
        known: dict[str, Any] = {
            "sha": oid,
            "author": repo.split("/")[0],
            "private": self.hub.is_private(repo),
            "gated": False,
            "disabled": False,
            "downloads": 0,
            "likes": 0,
            "tags": [],
            "lastModified": "2026-01-01T00:00:00.000Z",
            "createdAt": "2026-01-01T00:00:00.000Z",
            "siblings": [{"rfilename": path} for path in self.hub.files(repo, oid)],
        }
        wanted = self.query.get("expand")
        if wanted is not None:
            known = {name: value for name, value in known.items() if name in wanted}
        self._json({"_id": "0" * 24, "id": repo, **known})

    def _path_info(self, path: str, entry: dict[str, Any]) -> dict[str, Any]:
        info: dict[str, Any] = {"type": "file", "path": path, "size": entry["size"]}
        info["oid"] = entry["oid"]
        if entry["lfs"]:
            info["lfs"] = {"oid": entry["sha256"], "size": entry["size"], "pointerSize": 130}
        return info

    def paths_info(self, body: bytes, repo: str, revision: str) -> None:
        files = self.hub.files(repo, self._commit_of(repo, revision))
        if "json" in self.headers.get("Content-Type", ""):
            paths = json.loads(body)["paths"]
        else:
            paths = urllib.parse.parse_qs(body.decode()).get("paths", [])
        self._json(
            [
                self._path_info(path, files[path])
                if path in files
                else {"type": "directory", "path": path, "oid": "0" * 40}
                for path in paths
                if path in files or any(name.startswith(f"{path}/") for name in files)
            ]
        )

    def tree(self, body: bytes, repo: str, revision: str, path: str = "") -> None:
        files = self.hub.files(repo, self._commit_of(repo, revision))
        prefix = f"{path}/" if path else ""
        inside = {name: entry for name, entry in files.items() if name.startswith(prefix)}
        if prefix and not inside:
            raise _Answer(404, "EntryNotFound", f"{path} does not exist")
        found: dict[str, dict[str, Any]] = {}
        recursive = self.query.get("recursive", ["false"])[0].lower() in ("true", "1")
        for name, entry in sorted(inside.items()):
            steps = name[len(prefix) :].split("/")
            for depth in range(1, len(steps) if recursive else min(len(steps), 2)):
                folder = prefix + "/".join(steps[:depth])
                found[folder] = {"type": "directory", "path": folder, "oid": "0" * 40}
            if recursive or len(steps) == 1:
                found[name] = self._path_info(name, entry)
        start = int(self.query.get("cursor", ["0"])[0])
        headers = {}
        if start + PAGE < len(found):
            query = urllib.parse.urlencode({"recursive": recursive, "cursor": start + PAGE})
            headers["Link"] = f'<{self.hub.url}{self.url.path}?{query}>; rel="next"'
        self._json([found[name] for name in sorted(found)][start : start + PAGE], headers)

    def download(self, body: bytes, repo: str, revision: str, path: str) -> None:
        oid = self._commit_of(repo, revision)
        entry = self.hub.files(repo, oid).get(path)
        if entry is None:
            raise _Answer(404, "EntryNotFound", f"{path} does not exist on {revision!r}")
        etag = entry["sha256"] if entry["lfs"] else entry["oid"]
        if self.fault and self.fault.kind == "etag":
            etag = "0" * len(etag)
        headers = {"X-Repo-Commit": oid, "Accept-Ranges": "bytes"}
        if entry["lfs"] and self.hub.redirect:
            headers |= {"X-Linked-Size": str(entry["size"]), "X-Linked-Etag": f'"{etag}"'}
            # Another host, as on the real one, so clients leave the token out.
            host = self.hub.url.replace("127.0.0.1", "localhost")
            place = f"{host}/cdn/{entry['sha256']}/{urllib.parse.quote(path)}"
            self._reply(302, b"", {**headers, "Location": place})
            return
        self._content(self.hub.blob(entry["sha256"]), {**headers, "ETag": f'"{etag}"'})

    def cdn(self, body: bytes, sha256: str, path: str) -> None:
        wrong = self.fault is not None and self.fault.kind == "etag"
        etag = "0" * 64 if wrong else sha256
        self._content(self.hub.blob(sha256), {"ETag": f'"{etag}"', "Accept-Ranges": "bytes"})

    def _content(self, blob: Path, headers: dict[str, str]) -> None:
        size = blob.stat().st_size
        headers["Content-Type"] = "application/octet-stream"
        match = re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range") or "")
        if match is None or match.groups() == ("", ""):
            self._reply(200, b"" if self.command == "HEAD" else blob.read_bytes(), headers, size)
            return
        first, last = match.groups()
        start = int(first) if first else max(0, size - int(last))
        stop = min(int(last) + 1, size) if first and last else size
        if start >= max(size, 1):
            self._reply(416, b"", {"Content-Range": f"bytes */{size}"})
            return
        with blob.open("rb") as file:
            file.seek(start)
            data = file.read(stop - start)
        self._reply(206, data, {**headers, "Content-Range": f"bytes {start}-{stop - 1}/{size}"})


_API = r"/api/datasets/(?P<repo>[^/]+/[^/]+)"
_ROUTES: list[tuple[str, Callable[..., None]]] = [
    (r"/api/whoami-v2", Handler.whoami),
    (r"/api/validate-yaml", Handler.validate),
    (r"/api/repos/create", Handler.create),
    (_API + r"/preupload/(?P<revision>.+)", Handler.preupload),
    (r"/datasets/(?P<repo>[^/]+/[^/]+)\.git/info/lfs/objects/batch", Handler.batch),
    (r"/upload/(?P<oid>[0-9a-f]{64})", Handler.upload),
    (r"/verify/(?P<repo>[^/]+/[^/]+)", Handler.verify),
    (_API + r"/commit/(?P<revision>.+)", Handler.commit),
    (_API + r"/refs", Handler.refs),
    (_API + r"/tag/(?P<revision>.+)", Handler.tag),
    (_API + r"/revision/(?P<revision>.+)", Handler.info),
    (_API + r"/paths-info/(?P<revision>.+)", Handler.paths_info),
    (_API + r"/tree/(?P<revision>[^/]+)/?(?P<path>.*)", Handler.tree),
    (_API, Handler.info),
    (
        r"/datasets/(?P<repo>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<path>.+)",
        Handler.download,
    ),
    (r"/cdn/(?P<sha256>[0-9a-f]{64})/(?P<path>.+)", Handler.cdn),
]
