"""Libraries that only some features need, imported when those features are used."""

import importlib
from typing import Any

from lamofcbench.errors import MissingDependencyError

__all__ = ["require"]


def require(module: str, extra: str) -> Any:
    """Import an optional library.

    Args:
        module: the module's name, such as ``transformers``.
        extra: the extra of this package that installs it, such as ``models``.

    Returns:
        The module (typed as Any: what is optional has no types to rely on).

    Raises:
        MissingDependencyError: it cannot be imported; the message names the extra.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingDependencyError(
            f"{module} cannot be imported ({error}). Run: pip install 'lamofcbench[{extra}]'",
            name=module,
        ) from error
