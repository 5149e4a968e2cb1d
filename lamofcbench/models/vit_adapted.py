"""Brings a vit declaration to another checkpoint of the same family."""

from collections.abc import Mapping
from typing import Any

from lamofcbench.errors import ModelError
from lamofcbench.spec import ModeSpec, ProfileSpec, TensorSpec

__all__ = ["adapted_profile"]

ROOM_ASPECT = (4, 3)
"""Width to height of the images whose depth is asked for: NYU Depth v2's 640 x 480."""


def adapted_profile(profile: ProfileSpec, config: Mapping[str, Any]) -> ProfileSpec:
    """Rename the keys to blocks of the same relative depth, and give them this model's shapes.

    The declared last key is the last block of the declared model, so blocks 9, 19, 29 and 39 of 40
    become 2, 5, 8 and 11 of 12.

    Args:
        profile: the declaration.
        config: of a ``dinov3_vit`` checkpoint.

    Raises:
        ModelError: the configuration lacks an entry, or has too few blocks.
    """
    needed = ("num_hidden_layers", "hidden_size", "patch_size")
    values = [config.get(name) for name in needed]
    if not all(isinstance(value, int) and value > 0 for value in values):
        raise ModelError(f"{profile.model.id}: config.json lacks one of {', '.join(needed)}")
    blocks, dim, patch = (int(value) for value in values if value is not None)
    declared = {key.name: int(key.name.rpartition(".")[2]) for key in profile.keys}
    of = max(declared.values()) + 1
    numbers = {name: max(round((i + 1) * blocks / of), 1) - 1 for name, i in declared.items()}
    if len(set(numbers.values())) < len(numbers):
        raise ModelError(f"{profile.model.id}: {blocks} blocks are too few for {len(numbers)} keys")
    names = {name: f"layer.{number}" for name, number in numbers.items()}
    tokens = 1 + int(config.get("num_register_tokens", 0)) + _patches(profile, patch)

    def key(tensor: TensorSpec) -> TensorSpec:
        shape = (*tensor.shape[:-2], tokens, dim)
        return tensor.model_copy(update={"name": names[tensor.name], "shape": shape})

    def mode(name: str, body: ModeSpec) -> tuple[str, ModeSpec]:
        keys = tuple(names[known] for known in body.keys)
        head, mark, _ = name.partition(":")
        if mark:
            name = f"{head}:{numbers[body.keys[0]]}"
        return names.get(name, name), body.model_copy(update={"keys": keys})

    listed = ", ".join(str(number) for number in numbers.values())
    return profile.model_copy(
        update={
            "split_point": f"after blocks {listed} of {blocks}, before the final norm",
            "keys": tuple(key(tensor) for tensor in profile.keys),
            "modes": dict(mode(name, body) for name, body in profile.modes.items()),
        }
    )


def _patches(profile: ProfileSpec, patch: int) -> int:
    """Count the patches of one input of the backbone."""
    entries = profile.preprocess
    if (crop := entries.get("crop")) is not None:
        return (int(crop) // patch) ** 2
    short = int(entries["short_side"])
    return (short // patch) * (short * ROOM_ASPECT[0] // ROOM_ASPECT[1] // patch)
