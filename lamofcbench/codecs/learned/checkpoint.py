"""Checkpoints of networks that were trained elsewhere, with CompressAI's names of weights."""

import hashlib
import pickle
import re
from collections.abc import Mapping
from pathlib import Path

import torch

from lamofcbench.codecs.learned.base import Learned
from lamofcbench.codecs.learned.tables import TABLES
from lamofcbench.errors import SampleError

__all__ = ["load_checkpoint"]

OLD_NAMES = {"_matrix": "matrices", "_bias": "biases", "_factor": "factors"}
"""What releases of CompressAI before 1.2.7 called an entropy bottleneck's weights."""
_OLD = re.compile(r"(^|\.)(_matrix|_bias|_factor)(\d+)$")
_PARALLEL = "module."


def _renamed(name: str) -> str:
    name = name.removeprefix(_PARALLEL)
    return _OLD.sub(lambda found: f"{found[1]}{OLD_NAMES[found[2]]}.{found[3]}", name)


def _read(path: Path) -> dict[str, torch.Tensor]:
    """Read a state, whole or under ``state_dict``; nothing but tensors is unpickled."""
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, KeyError, ValueError, pickle.PickleError) as error:
        reason = str(error).strip().partition("\n")[0][:120]
        raise SampleError(f"{path}: no checkpoint, or a damaged one: {reason}") from None
    if isinstance(found, Mapping) and isinstance(found.get("state_dict"), Mapping):
        found = found["state_dict"]
    if not isinstance(found, Mapping) or not found:
        raise SampleError(f"{path}: no checkpoint: it holds no state_dict")
    for name, value in found.items():
        if not isinstance(name, str) or not isinstance(value, torch.Tensor):
            raise SampleError(f"{path}: no checkpoint: {name!r} is no tensor")
    return {_renamed(name): tensor for name, tensor in found.items()}


def load_checkpoint(codec: Learned, path: Path) -> None:
    """Give a codec the weights of a checkpoint, such as a published one.

    Args:
        codec: of the checkpoint's architecture.
        path: a ``.pth.tar`` with a ``state_dict``, or a state alone.

    Raises:
        SampleError: it is none, or of another architecture; the message names the first weight that
            differs, and both shapes.
    """
    state = _read(path)
    network = codec.build()
    wanted = {
        name: list(tensor.shape)
        for name, tensor in network.state_dict().items()
        if name.rpartition(".")[2] not in TABLES
    }
    sizes = f"{codec.name} with n={codec.n}, m={codec.m}"
    for name, shape in wanted.items():
        if name not in state:
            raise SampleError(f"{path}: not of {sizes}: {name} of shape {shape} is missing")
        if list(state[name].shape) != shape:
            found = list(state[name].shape)
            raise SampleError(f"{path}: not of {sizes}: {name} has shape {found}, needs {shape}")
    for name, tensor in state.items():
        if name not in wanted and name.rpartition(".")[2] not in TABLES:
            raise SampleError(
                f"{path}: not of {sizes}: {name} of shape {list(tensor.shape)} is not in it"
            )
    codec.weights = {name: state[name].detach().float() for name, _ in network.named_parameters()}
    codec.about = {
        "fit": "published",
        "checkpoint": path.name,
        "checkpoint_sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
    }
