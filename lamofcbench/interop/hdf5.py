"""Samples as one HDF5 file that opens with h5py alone: contiguous data sets, no filters.

::

    /ids                 text [samples]
    /features/<key>      all samples behind one another along the first axis
    /start/<key>         int64 [samples], where each begins on that axis
    /length/<key>        int64 [samples], how far it goes

Axes are in the attribute ``axes``, the first being the one that samples are joined along: the
ragged one, so caches are token-major. HDF5 has no bfloat16: its bits are uint16, and the attribute
``logical_dtype`` says so.
"""

import glob
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from lamofcbench.atomic import TEMPORARY
from lamofcbench.bits import dtype_name, storage_dtype, to_storage
from lamofcbench.errors import SampleError
from lamofcbench.interop.output import Samples, fresh_file, said_of
from lamofcbench.optional import require

__all__ = ["export_hdf5"]

ABOUT = "lamofcbench"
"""Attribute of the file: what it is of, as JSON."""


def export_hdf5(samples: Samples, out: Path, step: Callable[[], object] = lambda: None) -> int:
    """Write all samples into one file; memory is that of one sample.

    Args:
        samples: which.
        out: the file; one of the same export is replaced.
        step: called after each sample.

    Returns:
        How many samples there are.

    Raises:
        SampleError: ``out`` is something else, or cannot be written.
    """
    h5py = require("h5py", "interop")
    about = json.dumps(said_of(samples, "hdf5"))
    _check_own(h5py, out, about)
    with fresh_file(out) as temporary, h5py.File(temporary, "w") as file:
        file.attrs[ABOUT] = about
        ids = file.create_dataset("ids", (len(samples),), h5py.string_dtype())
        joined = [_Joined(file, samples, key) for key in samples.keys]
        for row, item in enumerate(samples):
            ids[row] = item["id"]
            for one in joined:
                one.write(row, item["features"][one.key])
            step()
    return len(samples)


def _check_own(h5py: Any, out: Path, about: str) -> None:
    for leftover in out.parent.glob(f".{glob.escape(out.name)}.*{TEMPORARY}"):
        leftover.unlink()
    if not out.exists():
        return
    try:
        with h5py.File(out, "r") as file:
            mine = file.attrs.get(ABOUT) == about
    except OSError:
        mine = False
    if not mine:
        raise SampleError(f"{out} is something else than this export: name a new file")


class _Joined:
    """One key of all samples, in a data set of its own."""

    def __init__(self, file: Any, samples: Samples, key: str) -> None:
        layout = samples.manifest.layouts[key]
        axes = list(samples.axes(key))
        ragged = layout.ragged_axis
        # What is joined along goes first; the rest stays in stored order.
        first = ragged if ragged is not None else layout.axes[1]
        order = [first, *(axis for axis in layout.axes[1:] if axis != first)]
        sizes = dict(zip(layout.axes[1:], layout.shape[1:], strict=True))
        self.key = key
        self._order = [axes.index(axis) for axis in order]
        self._captured = layout.captured
        lengths = [
            samples.lengths(row)[ragged] if ragged is not None else sizes[first]
            for row in range(len(samples))
        ]
        ends = np.cumsum(np.array(lengths, np.int64))
        self._starts = ends - lengths
        self._lengths = lengths
        shape = (int(ends[-1]) if lengths else 0, *(sizes[axis] for axis in order[1:]))
        stored = storage_dtype(self._captured)
        self._data = file.create_dataset(f"features/{key}", shape, stored)
        self._data.attrs["axes"] = order
        self._data.attrs["logical_dtype"] = self._captured
        file.create_dataset(f"start/{key}", data=self._starts)
        file.create_dataset(f"length/{key}", data=np.array(lengths, np.int64))

    def write(self, row: int, tensor: Any) -> None:
        array = to_storage(tensor, dtype_name(tensor), self._captured, self.key)
        start = int(self._starts[row])
        self._data[start : start + self._lengths[row]] = np.transpose(array, self._order)
