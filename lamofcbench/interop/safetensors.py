"""Samples as safetensors, one file each, as ``score --features`` takes them."""

from collections.abc import Callable, Mapping
from pathlib import Path

import torch

from lamofcbench.interop.names import sample_file
from lamofcbench.interop.output import Samples, claim, finish, fresh_file, said_of
from lamofcbench.optional import require

__all__ = ["export_safetensors", "write_sample"]


def write_sample(folder: Path, sample: str, features: Mapping[str, torch.Tensor]) -> None:
    """Write one sample's tensors, in the model's own layout, as ``<sample>.safetensors``.

    Raises:
        SampleError: the folder cannot be written.
    """
    save_file = require("safetensors.torch", "interop").save_file
    whole = {key: tensor.contiguous() for key, tensor in features.items()}
    with fresh_file(folder / sample_file(sample, ".safetensors")) as temporary:
        save_file(whole, temporary, metadata={"sample": sample})


def export_safetensors(
    samples: Samples, out: Path, step: Callable[[], object] = lambda: None
) -> int:
    """Write every sample as one file.

    Args:
        samples: which.
        out: folder for them; see `claim`.
        step: called after each sample.

    Returns:
        How many samples there are.

    Raises:
        SampleError: ``out`` holds something else, or cannot be written.
    """
    said = said_of(samples, "safetensors")
    claim(out, said)
    for item in samples:
        write_sample(out, item["id"], item["features"])
        step()
    finish(out, said)
    return len(samples)
