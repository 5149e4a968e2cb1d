"""Model families: both halves of a split model, one family a file."""

from pathlib import Path
from typing import Any

from lamofcbench.registry import Registry

__all__ = ["FAMILIES", "bundled_path", "load_family"]

FAMILIES = Registry(
    "family",
    {
        "llm": "lamofcbench.models.llm:Llm",
        "ssm": "lamofcbench.models.ssm:Ssm",
        "t2i": "lamofcbench.models.t2i:T2i",
        "vit": "lamofcbench.models.vit:Vit",
        "mllm": "lamofcbench.models.mllm:Mllm",
        "alm": "lamofcbench.models.alm:Alm",
    },
)


def bundled_path(name: str) -> Path:
    """Folder of a miniature that ships in the wheel, such as ``vit``."""
    return Path(__file__).parent / "tiny" / name


def load_family(family: str, profile: Any, **options: Any) -> Any:
    """Load a family's model for a profile; see `lamofcbench.models.base.Family.load`."""
    return FAMILIES.load(family).load(profile, **options)
