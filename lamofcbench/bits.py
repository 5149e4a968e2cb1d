"""Dtypes and their bits: the one place that knows bfloat16, which numpy does not.

bfloat16 is kept as the uint16 of its bits and never widened on disk. torch is imported only when
a tensor is made, so that everything that merely lists or verifies stays quick.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from lamofcbench.errors import SampleError

if TYPE_CHECKING:
    import torch

__all__ = ["dtype_name", "from_storage", "itemsize", "storage_dtype", "to_storage"]

_STORAGE = {
    "bfloat16": "uint16",
    "float16": "float16",
    "float32": "float32",
    "float64": "float64",
    "uint8": "uint8",
    "uint16": "uint16",
    "int16": "int16",
    "int32": "int32",
    "int64": "int64",
}


def storage_dtype(logical: str) -> str:
    """Name of the numpy (and Zarr) dtype that holds a logical dtype's bits."""
    return _STORAGE[logical]


def itemsize(logical: str) -> int:
    """Bytes per element of a logical dtype."""
    return np.dtype(_STORAGE[logical]).itemsize


def dtype_name(value: Any) -> str:
    """Logical dtype of a torch tensor or a numpy array, such as ``"bfloat16"``."""
    return str(value.dtype).removeprefix("torch.")


def to_storage(value: Any, captured: str, logical: str, name: str) -> npt.NDArray[Any]:
    """Turn a captured tensor into the array that is stored, without changing a bit of its values.

    Args:
        value: a torch tensor or a numpy array, any shape.
        captured: the dtype that it is declared to have.
        logical: the dtype whose values are stored: ``captured``, or ``"bfloat16"`` for a float32
            tensor whose values all fit it.
        name: the tensor's name, for messages.

    Returns:
        An array of the same shape in `storage_dtype(logical)`.

    Raises:
        SampleError: the dtype is not the declared one, or a value does not fit bfloat16.
    """
    found = dtype_name(value)
    if found != captured:
        raise SampleError(f"{name}: dtype {found}, declared {captured}")
    array: npt.NDArray[Any]
    if isinstance(value, np.ndarray):
        array = value
    elif captured == "bfloat16":
        import torch

        array = value.detach().cpu().contiguous().view(torch.int16).numpy().view(np.uint16)
    else:
        array = value.detach().cpu().numpy()
    if logical == "bfloat16" and captured == "float32":
        words = np.ascontiguousarray(array).view(np.uint32)
        if (words & np.uint32(0xFFFF)).any():
            raise SampleError(
                f"{name}: declared stored as bfloat16, but holds float32 values that do not fit it"
            )
        array = (words >> np.uint32(16)).astype(np.uint16)
    return array


def from_storage(array: npt.NDArray[Any], captured: str, logical: str) -> torch.Tensor:
    """Turn a stored array back into the tensor that was captured, bit for bit.

    Args:
        array: writable, in `storage_dtype(logical)`, any shape; the tensor may share its memory.
        captured: the dtype to hand back.
        logical: the dtype whose values are stored.

    Returns:
        A torch tensor of dtype ``captured``.
    """
    import torch

    if logical == "bfloat16" and captured == "float32":
        wide = array.astype(np.uint32) << np.uint32(16)
        return torch.from_numpy(wide.view(np.float32))
    tensor = torch.from_numpy(array)
    return tensor.view(torch.bfloat16) if logical == "bfloat16" else tensor
