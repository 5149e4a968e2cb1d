"""Samples as ``.npy`` files: a folder a sample, a file a key, and JSON that says what is what.

npy has no bfloat16, so those files hold uint16: the values' bits.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from lamofcbench.bits import dtype_name, storage_dtype, to_storage
from lamofcbench.interop.names import sample_file
from lamofcbench.interop.output import Samples, claim, finish, fresh_file, said_of, write_json

__all__ = ["SAMPLE", "export_npy"]

SAMPLE = "sample.json"
"""Beside the arrays of a sample, and written last: what they are."""


def export_npy(samples: Samples, out: Path, step: Callable[[], object] = lambda: None) -> int:
    """Write every tensor, in the model's own layout, as ``<sample>/<key>.npy``.

    Args:
        samples: which.
        out: folder for them; see `claim`.
        step: called after each sample.

    Returns:
        How many samples there are.

    Raises:
        SampleError: ``out`` holds something else, or cannot be written.
    """
    said = said_of(samples, "npy")
    claim(out, said)
    for item in samples:
        folder = out / sample_file(item["id"], "")
        tensors = {}
        for key, tensor in item["features"].items():
            name = dtype_name(tensor)
            with fresh_file(folder / f"{key}.npy") as temporary, temporary.open("wb") as file:
                np.save(file, to_storage(tensor, name, name, key), allow_pickle=False)
            tensors[key] = _entry(tensor, samples.axes(key))
        about = {"sample": item["id"], "lengths": item["lengths"], "tensors": tensors}
        write_json(folder / SAMPLE, about)
        step()
    finish(out, said)
    return len(samples)


def _entry(tensor: torch.Tensor, axes: tuple[str, ...]) -> dict[str, object]:
    name = dtype_name(tensor)
    return {
        "dtype": name,
        "stored_dtype": storage_dtype(name),
        "bits_of": name if storage_dtype(name) != name else None,
        "shape": list(tensor.shape),
        "axes": list(axes),
    }
