"""Silence for libraries that talk while they load."""

import contextlib
from collections.abc import Iterator

from lamofcbench.optional import require

__all__ = ["quiet"]


@contextlib.contextmanager
def quiet(*libraries: str) -> Iterator[None]:
    """Silence progress bars and log lines, and restore both afterwards.

    Args:
        libraries: what to silence besides transformers, such as ``diffusers``; imported once
            those before them are silent, for their imports make transformers speak.
    """
    with contextlib.ExitStack() as stack:
        for library in ("transformers", *libraries):
            require(library, "models")
            logging = require(f"{library}.utils.logging", "models")
            stack.callback(logging.set_verbosity, logging.get_verbosity())
            logging.set_verbosity(logging.CRITICAL)
            if logging.is_progress_bar_enabled():
                stack.callback(logging.enable_progress_bar)
                logging.disable_progress_bar()
        yield
