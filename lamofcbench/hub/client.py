"""Talking to the Hub: where it is, who asks, what to try again, and what its errors mean.

The endpoint and the token are looked up at every call, where ``huggingface_hub`` keeps them
(``HF_ENDPOINT``; ``HF_TOKEN`` or ``hf auth login``). The token goes into a header and nowhere else.
"""

import importlib
import os
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from lamofcbench.errors import HubError

__all__ = [
    "ATTEMPTS",
    "api",
    "backoff",
    "endpoint",
    "explain",
    "headers",
    "is_passing",
    "retry_after",
    "retrying",
    "utilities",
]

ATTEMPTS = 6
FIRST_WAIT = 0.5
LONGEST_WAIT = 60.0
LONGEST_ASKED = 300.0
PASSING = (408, 425, 429, 500, 502, 503, 504)
"""Answers that another try may change."""

Result = TypeVar("Result")


def utilities() -> Any:
    """The client's own helpers: sessions, headers, what an answer means."""
    return importlib.import_module("huggingface_hub.utils")


def endpoint() -> str:
    """The Hub's address: ``$HF_ENDPOINT``, else the public one."""
    from huggingface_hub import constants

    return (os.environ.get("HF_ENDPOINT") or constants.ENDPOINT).rstrip("/")


def _token() -> str | None:
    import huggingface_hub

    token: str | None = huggingface_hub.get_token()
    return token


def api() -> Any:
    """A client for the Hub as it is configured now."""
    import huggingface_hub

    return huggingface_hub.HfApi(endpoint=endpoint(), token=_token(), library_name="lamofcbench")


def headers() -> dict[str, str]:
    """Headers of a request, with the token if there is one."""
    build = utilities().build_hf_headers
    found: dict[str, str] = build(token=_token(), library_name="lamofcbench")
    return {**found, "Accept-Encoding": "identity"}


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An error and what it was raised from: the client wraps what happened in its threads."""
    link: BaseException | None = error
    while link is not None:
        yield link
        link = link.__cause__


def _status(error: BaseException) -> int | None:
    status = getattr(getattr(error, "response", None), "status_code", None)
    return status if isinstance(status, int) else None


def _is_network(error: BaseException) -> bool:
    # Not imported: which HTTP library the client uses is its own affair.
    names = {base.__name__ for base in type(error).__mro__}
    if "OfflineModeIsEnabled" in names:
        return False
    return bool(names & {"TransportError", "ConnectionError", "TimeoutError", "IncompleteRead"})


def is_passing(error: BaseException) -> bool:
    """Whether trying again may help: the network failed, or the Hub is busy."""
    return any(_is_network(link) or _status(link) in PASSING for link in _chain(error))


def retry_after(error: BaseException) -> float | None:
    """Seconds that the Hub asks to wait, or None."""
    for link in _chain(error):
        response = getattr(link, "response", None)
        if response is not None and response.headers.get("Retry-After"):
            try:
                return float(response.headers["Retry-After"])
            except ValueError:
                return None
    return None


def backoff(attempt: int, asked: float | None = None) -> None:
    """Wait before another try: as long as the Hub asks, else twice as long each time.

    Args:
        attempt: how many tries have failed, from 1.
        asked: seconds that the Hub asked for.
    """
    if asked is None:
        time.sleep(min(FIRST_WAIT * 2 ** (attempt - 1), LONGEST_WAIT))
    else:
        time.sleep(min(max(asked, 0.0), LONGEST_ASKED))


def explain(what: str, error: BaseException) -> HubError:
    """One line about a failed request, without the token."""
    status = next((s for link in _chain(error) if (s := _status(link)) is not None), None)
    names = {type(link).__name__ for link in _chain(error)}
    if status in (401, 403) or names & {"RepositoryNotFoundError", "GatedRepoError"}:
        reason = (
            f"{endpoint()} has no such data set, or it is private and this token may not see or "
            "write it. Check the name, or log in: hf auth login"
        )
    elif "RevisionNotFoundError" in names:
        reason = "no such revision. Name a tag, a branch or a commit that is there"
    elif status is not None:
        reason = f"{endpoint()} answers {status}. Run the same command again later to go on"
    elif is_passing(error):
        last = list(_chain(error))[-1]
        reason = (
            f"{endpoint()} cannot be reached ({type(last).__name__}). "
            "Run the same command again to go on"
        )
    else:
        reason = " ".join(str(error).split()) or type(error).__name__
    token = _token()
    return HubError(f"{what}: {reason.replace(token, '…') if token else reason}")


def retrying(what: str, call: Callable[[], Result]) -> Result:
    """Call something until it works, while its errors are passing ones.

    Args:
        what: it is about, for the message.
        call: must be safe to repeat.

    Raises:
        HubError: it failed for good, or too often.
    """
    from huggingface_hub.errors import HfHubHTTPError

    attempt = 0
    while True:
        try:
            return call()
        except HubError:
            raise
        except (HfHubHTTPError, OSError, RuntimeError, ValueError) as error:
            attempt += 1
            if not is_passing(error) or attempt == ATTEMPTS:
                raise explain(what, error) from None
            backoff(attempt, retry_after(error))
        except Exception as error:
            # The HTTP library's own errors, which share no builtin base.
            attempt += 1
            if not _is_network(error):
                raise
            if attempt == ATTEMPTS:
                raise explain(what, error) from None
            backoff(attempt)
