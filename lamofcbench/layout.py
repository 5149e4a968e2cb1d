"""Where every byte of a store lies: chunk and shard shapes, file paths, which chunks exist.

Pure arithmetic on declared shapes; nothing here touches a file.
"""

import functools
import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from lamofcbench.bits import itemsize, storage_dtype
from lamofcbench.spec import ProfileSpec, TensorSpec

__all__ = [
    "CHUNK_BYTES",
    "MAX_CHUNKS_PER_SHARD",
    "SHARD_BYTES",
    "TINY_SAMPLES_PER_SHARD",
    "ArrayLayout",
    "build_layouts",
    "samples_per_shard",
]

CHUNK_BYTES = {"blosc": 1 << 20, "none": 1 << 16}
SHARD_BYTES = 256_000_000
MAX_CHUNKS_PER_SHARD = 2048
TINY_SAMPLES_PER_SHARD = 16
ROW_AXES = ("token", "image_token")


@dataclass(frozen=True)
class ArrayLayout:
    """One array of a store.

    Attributes:
        path: its path under ``features.zarr``, such as ``layer.4.output`` or ``context/token_ids``.
        axes: dimension names, ``sample`` first.
        shape: [samples, ...], a ragged axis at its declared maximum.
        chunk: shape of a chunk; the first entry is 1.
        shard: shape of a shard; the first entry is the number of samples in it.
        ragged_axis: the axis that has lengths, or None.
        captured: dtype that the model produced and that readers get back.
        logical: dtype whose values are stored.
        compression: ``blosc`` or ``none``.
    """

    path: str
    axes: tuple[str, ...]
    shape: tuple[int, ...]
    chunk: tuple[int, ...]
    shard: tuple[int, ...]
    ragged_axis: str | None
    captured: str
    logical: str
    compression: str

    @classmethod
    def build(
        cls, path: str, tensor: TensorSpec, profile: ProfileSpec, samples: int, per_shard: int
    ) -> Self:
        """Lay out a declared tensor over ``samples`` samples, ``per_shard`` of them in a shard."""
        sizes = tuple(
            profile.ragged[size].max if isinstance(size, str) else size for size in tensor.shape
        )
        chunk = _chunk_shape(tensor, sizes, profile.compression)
        return cls(
            path=path,
            axes=("sample", *tensor.axes),
            shape=(samples, *sizes),
            chunk=(1, *chunk),
            shard=(
                per_shard,
                *(math.ceil(n / c) * c for n, c in zip(sizes, chunk, strict=True)),
            ),
            ragged_axis=tensor.ragged_axis,
            captured=tensor.captured,
            logical=tensor.logical,
            compression=profile.compression,
        )

    @property
    def storage(self) -> str:
        """Name of the numpy and Zarr dtype on disk."""
        return storage_dtype(self.logical)

    @property
    def chunk_bytes(self) -> int:
        """Raw bytes of one chunk."""
        return itemsize(self.logical) * math.prod(self.chunk)

    @functools.cached_property
    def grid(self) -> tuple[int, ...]:
        """Chunks along each axis after ``sample``."""
        return tuple(s // c for s, c in zip(self.shard[1:], self.chunk[1:], strict=True))

    @property
    def chunks_per_sample(self) -> int:
        """Chunk slots of a sample, whether present or not."""
        return math.prod(self.grid)

    @property
    def row_index(self) -> int:
        """Which axis after ``sample`` chunks cut into rows: tokens, else the first."""
        return next((i for i, axis in enumerate(self.axes[1:]) if axis in ROW_AXES), 0)

    @property
    def ragged_index(self) -> int | None:
        """Position of the ragged axis among the axes after ``sample``."""
        return None if self.ragged_axis is None else self.axes.index(self.ragged_axis) - 1

    @property
    def native_order(self) -> tuple[int, ...]:
        """Axes after ``sample`` in the model's own order, as positions in the stored order.

        Caches are stored [token, head, dim] and used as [head, token, dim]; all others are stored
        as they are used.
        """
        names = self.axes[1:]
        order = sorted(range(len(names)), key=lambda i: names[i] != "head")
        return tuple(order) if "head" in names else tuple(range(len(names)))

    def stored_shape(self, lengths: Mapping[str, int]) -> tuple[int, ...]:
        """Shape of one sample in the stored order, given its lengths."""
        return tuple(
            lengths[axis] if axis == self.ragged_axis else size
            for axis, size in zip(self.axes[1:], self.shape[1:], strict=True)
        )

    @functools.lru_cache(maxsize=4096)  # noqa: B019 - layouts are few, frozen and live as long
    def present(self, length: int) -> tuple[bool, ...]:
        """Which chunk slots of a sample exist, in C order: those that overlap its length.

        Args:
            length: of the ragged axis, any positive number without one; 0 for a skipped sample.
        """
        if length == 0:
            return (False,) * self.chunks_per_sample
        ragged = self.ragged_index
        limits = [
            math.ceil((length if i == ragged else n) / c)
            for i, (n, c) in enumerate(zip(self.shape[1:], self.chunk[1:], strict=True))
        ]
        return tuple(
            all(p < m for p, m in zip(at, limits, strict=True))
            for at in itertools.product(*(range(g) for g in self.grid))
        )

    def shard_path(self, index: int) -> str:
        """Path of a shard's file, relative to the store's folder."""
        return f"features.zarr/{self.path}/c/{index}" + "/0" * (len(self.shape) - 1)

    def to_manifest(self) -> dict[str, Any]:
        """The array's entry in the manifest."""
        return {
            "axes": list(self.axes),
            "shape": list(self.shape),
            "captured_dtype": self.captured,
            "logical_dtype": self.logical,
            "stored_dtype": self.storage,
            "ragged_axis": self.ragged_axis,
            "chunk_shape": list(self.chunk),
            "shard_shape": list(self.shard),
            "compression": self.compression,
        }

    @classmethod
    def from_manifest(cls, path: str, entry: Mapping[str, Any]) -> Self:
        """Inverse of `to_manifest`."""
        return cls(
            path=path,
            axes=tuple(entry["axes"]),
            shape=tuple(entry["shape"]),
            chunk=tuple(entry["chunk_shape"]),
            shard=tuple(entry["shard_shape"]),
            ragged_axis=entry["ragged_axis"],
            captured=entry["captured_dtype"],
            logical=entry["logical_dtype"],
            compression=entry["compression"],
        )


def _chunk_shape(tensor: TensorSpec, sizes: tuple[int, ...], compression: str) -> tuple[int, ...]:
    row = next((i for i, axis in enumerate(tensor.axes) if axis in ROW_AXES), 0)
    row_bytes = itemsize(tensor.logical) * math.prod(sizes[row + 1 :])
    rows_max = max(1, CHUNK_BYTES[compression] // row_bytes)
    if tensor.axes[row] == tensor.ragged_axis:
        rows = rows_max
    else:
        rows = math.ceil(sizes[row] / math.ceil(sizes[row] / rows_max))
    return (1,) * row + (rows, *sizes[row + 1 :])


def samples_per_shard(profile: ProfileSpec, name: str) -> int:
    """How many samples a shard of this profile holds, the same for every array of the store."""
    if name == "tiny":
        return TINY_SAMPLES_PER_SHARD
    typical = max(
        itemsize(tensor.logical)
        * math.prod(
            profile.ragged[size].typical if isinstance(size, str) else size for size in tensor.shape
        )
        for tensor in profile.tensors().values()
    )
    chunks = max(
        ArrayLayout.build(path, tensor, profile, 1, 1).chunks_per_sample
        for path, tensor in profile.tensors().items()
    )
    return max(1, min(SHARD_BYTES // typical, MAX_CHUNKS_PER_SHARD // chunks))


def build_layouts(profile: ProfileSpec, name: str, samples: int) -> dict[str, ArrayLayout]:
    """Lay out every array of a store, by path."""
    per_shard = samples_per_shard(profile, name)
    return {
        path: ArrayLayout.build(path, tensor, profile, samples, per_shard)
        for path, tensor in profile.tensors().items()
    }
