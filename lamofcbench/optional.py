"""Libraries that only some uses need."""

import importlib
from typing import Any

from lamofcbench.errors import MissingDependencyError

__all__ = ["require"]


def require(module: str, extra: str) -> Any:
    """Import and return an optional library.

    Args:
        module: what to import.
        extra: the extra of this package that brings it.

    Raises:
        MissingDependencyError: it is not installed; the message has the command that installs it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingDependencyError(
            f"{module} cannot be imported ({error}): pip install 'lamofcbench[{extra}]'"
        ) from None
