"""Features as planes, for codecs of pictures: one layout a file, no state, nothing but shapes."""

from collections.abc import Sequence

from lamofcbench.packing.base import Packing
from lamofcbench.registry import Registry

__all__ = ["PACKINGS", "Packing", "default_packing", "load_packing"]

PACKINGS = Registry(
    "packing",
    {
        "channels": "lamofcbench.packing.channels:Channels",
        "square": "lamofcbench.packing.square:Square",
        "states": "lamofcbench.packing.states:States",
        "tiles": "lamofcbench.packing.tiles:Tiles",
        "tokens": "lamofcbench.packing.tokens:Tokens",
        "vector": "lamofcbench.packing.vector:Vector",
    },
)


def load_packing(name: str) -> Packing:
    """Make a packing by name; `UnknownNameError` with near matches."""
    made: Packing = PACKINGS.load(name)()
    return made


def default_packing(axes: Sequence[str]) -> Packing:
    """The reference's packing of a tensor with these axes, in the model's own layout.

    Args:
        axes: names, without the sample axis.
    """
    for name in ("tokens", "states", "tiles", "vector"):
        packing = load_packing(name)
        if packing.takes(axes):
            return packing
    return load_packing("channels")
