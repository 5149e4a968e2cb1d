"""Makes Hugging Face `datasets` know this package's name, whichever of the two is imported first.

`datasets` has no door for builders of other packages: names of its own builders are kept in a
private table, and the factory that answers for them first looks for data files in the working
folder. The name is entered in that table, and the factory replaced by one that, for this name
alone, asks the archive instead.
"""

import importlib.abc
import importlib.machinery
import importlib.util
import sys
import warnings
from collections.abc import Sequence
from types import ModuleType
from typing import Any

__all__ = ["NAME", "install"]

NAME = "lamofcbench"
MODULE = "datasets.load"
BUILDER = "lamofcbench.interop.hf_builder"
TABLE, FACTORY = "_PACKAGED_DATASETS_MODULES", "PackagedDatasetModuleFactory"


class _Loader(importlib.abc.Loader):
    """Runs a module as its own loader does, then enters the name."""

    def __init__(self, loader: Any) -> None:
        self._loader = loader

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        made: ModuleType | None = self._loader.create_module(spec)
        return made

    def exec_module(self, module: ModuleType) -> None:
        self._loader.exec_module(module)
        _enter(module)


class _Finder(importlib.abc.MetaPathFinder):
    """Waits for one module to be imported; finds nothing else, and that one only once."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname != MODULE:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(fullname)
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader)
        return spec


def install() -> None:
    """Enter the name in `datasets`, now or, if it is not imported yet, when it is."""
    if (loaded := sys.modules.get(MODULE)) is not None:
        _enter(loaded)
    elif not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


def _enter(load: ModuleType) -> None:
    table, factory = getattr(load, TABLE, None), getattr(load, FACTORY, None)
    if not isinstance(table, dict) or not isinstance(factory, type):
        warnings.warn(
            f'datasets.load_dataset("{NAME}") will not work: this version of datasets keeps its '
            "builders elsewhere. Install datasets 5.2, or use lamofcbench.load_dataset",
            stacklevel=2,
        )
        return
    if NAME in table:
        return
    table[NAME] = (BUILDER, "")
    setattr(load, FACTORY, _factory(factory))


def _factory(usual: type) -> type:
    class Factory(usual):  # type: ignore[misc]
        """Asks the archive for this package's name, and its base for all others."""

        def get_module(self) -> Any:
            if self.name != NAME:
                return super().get_module()
            from lamofcbench.interop.hf_builder import describe

            return describe(self.data_dir, self.data_files)

    Factory.__name__ = Factory.__qualname__ = usual.__name__
    return Factory
