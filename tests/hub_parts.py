"""Requests and faults of the local Hub."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

PIECE = 1 << 16


@dataclass
class Request:
    """One request as the server saw it: ``sent`` and ``received`` count bytes of bodies."""

    method: str
    path: str
    range: str | None
    authorised: bool
    status: int = 0
    sent: int = 0
    received: int = 0


@dataclass
class Fault:
    """What goes wrong with some requests.

    ``kind``: ``drop`` (the connection is cut in the middle of the body, either way), ``429`` (with
    ``Retry-After: retry_after``), ``503``, ``truncate`` (a body that is honestly too short),
    ``corrupt`` (a byte is changed), ``etag`` (a wrong ETag), ``slow`` (``seconds`` before each
    ``piece`` bytes of the body).

    ``match`` is a part of the path or a predicate; the first ``after`` matching requests pass, the
    next ``times`` fail.
    """

    kind: str
    match: str | Callable[[Request], bool] = ""
    method: str | None = None
    after: int = 0
    times: int = 1
    retry_after: float = 0
    seconds: float = 0.01
    piece: int = PIECE
    hits: int = field(default=0, init=False)

    def applies(self, request: Request) -> bool:
        """Whether this request fails; counts it."""
        if self.method not in (None, request.method):
            return False
        found = self.match in request.path if isinstance(self.match, str) else self.match(request)
        if not found:
            return False
        self.hits += 1
        return self.after < self.hits <= self.after + self.times


def write_json(path: Path, value: Any) -> None:
    temporary = path.with_name(f".{path.name}")
    temporary.write_text(json.dumps(value))
    temporary.replace(path)


def is_text(sample: bytes) -> bool:
    try:
        return "\0" not in sample.decode("utf-8")
    except UnicodeDecodeError as error:
        # The sample may end inside a character.
        return error.start >= len(sample) - 3 and b"\0" not in sample
