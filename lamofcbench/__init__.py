"""An archive of the intermediate features of large models, with loaders.

>>> from lamofcbench import load_dataset
>>> ds = load_dataset("lamofcbench", "vqa-mllm")
>>> ds[0]["features"]["layer.4.output"].shape
"""

import importlib
from typing import TYPE_CHECKING, Any

from lamofcbench.interop import hf_hook

if TYPE_CHECKING:
    from lamofcbench.batch import collate
    from lamofcbench.dataset import FeatureDataset, load_dataset
    from lamofcbench.spec import list_configs

__version__ = "0.1.0"

__all__ = ["FeatureDataset", "__version__", "collate", "list_configs", "load_dataset"]

# Looked up when first used, so that listing and `--help` import neither torch nor pyarrow.
_HOMES = {
    "FeatureDataset": "lamofcbench.dataset",
    "collate": "lamofcbench.batch",
    "list_configs": "lamofcbench.spec",
    "load_dataset": "lamofcbench.dataset",
}

# `datasets.load_dataset("lamofcbench", …)` then works, whichever is imported first.
hf_hook.install()


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
