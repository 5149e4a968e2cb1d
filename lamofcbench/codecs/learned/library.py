"""CompressAI, which the learned codecs' layers, entropy models and range coder come from.

Its package imports everything that it has, data sets' and point clouds' transforms too, and so asks
for torchvision and torch_geometric, of which codecs use nothing. They are large, and torchvision
ties torch to one build. Therefore its requirements are not installed with it (see
``constraints-nodeps.txt``), and while it is imported, and only then, empty modules stand for the
two. Where one of them was imported before, that is left alone.
"""

import functools
import importlib
import sys
from types import ModuleType
from typing import Any

from lamofcbench.errors import MissingDependencyError

__all__ = ["INSTALL", "library"]

INSTALL = (
    "pip install 'lamofcbench[learned]' && "
    "pip install --no-deps compressai==1.2.8 pytorch-msssim==1.0.0"
)
PLACEHOLDERS = (
    "torchvision",
    "torchvision.transforms",
    "torch_geometric",
    "torch_geometric.data",
    "torch_geometric.data.datapipes",
    "torch_geometric.transforms",
)


class _Nothing:
    """Stands for whatever is imported of a placeholder: a base class, or a maker of decorators."""

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def __call__(self, decorated: Any) -> Any:
        return decorated


class _Placeholder(ModuleType):
    """A module that has everything, all of it `_Nothing`."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _Nothing


@functools.cache
def library() -> Any:
    """Import CompressAI.

    Returns:
        The module, with ``models``, ``layers``, ``latent_codecs`` and ``entropy_models`` imported.

    Raises:
        MissingDependencyError: it, or a library that it imports, is not installed; the message has
            the command.
    """
    taken = {name.partition(".")[0] for name in PLACEHOLDERS} & set(sys.modules)
    added = [name for name in PLACEHOLDERS if name.partition(".")[0] not in taken]
    for name in added:
        module = _Placeholder(name)
        sys.modules[name] = module
        parent, _, last = name.rpartition(".")
        if parent:
            setattr(sys.modules[parent], last, module)
    try:
        package = importlib.import_module("compressai")
        for part in ("models", "layers", "latent_codecs", "entropy_models"):
            importlib.import_module(f"compressai.{part}")
    except ImportError as error:
        raise MissingDependencyError(
            f"compressai cannot be imported ({error}). Run: {INSTALL}",
            name="compressai",
        ) from error
    finally:
        for name in added:
            del sys.modules[name]
    return package
