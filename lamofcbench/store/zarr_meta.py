"""Zarr v3 metadata of a store, so that any Zarr library opens it.

Written here rather than by a library: the same request must give the same bytes for ever.
"""

from collections.abc import Mapping
from typing import Any

from lamofcbench.atomic import canonical_json
from lamofcbench.bits import itemsize
from lamofcbench.layout import ArrayLayout
from lamofcbench.store.shard import BLOSC_BLOCKSIZE

__all__ = ["zarr_documents"]

_CRC: dict[str, Any] = {"name": "crc32c"}
_BYTES: dict[str, Any] = {"name": "bytes", "configuration": {"endian": "little"}}
_GROUP: dict[str, Any] = {"zarr_format": 3, "node_type": "group", "attributes": {}}


def _array(
    shape: list[int],
    chunk: list[int],
    dtype: str,
    names: list[str],
    codecs: list[dict[str, Any]],
    attributes: dict[str, Any],
) -> dict[str, Any]:
    return {
        "zarr_format": 3,
        "node_type": "array",
        "shape": shape,
        "data_type": dtype,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": chunk}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "fill_value": 0,
        "codecs": codecs,
        "dimension_names": names,
        "attributes": attributes,
    }


def _sharded(layout: ArrayLayout) -> dict[str, Any]:
    size = itemsize(layout.logical)
    # The format has no byte order for one-byte elements.
    as_bytes = _BYTES if size > 1 else {"name": "bytes"}
    blosc = {
        "name": "blosc",
        "configuration": {
            "cname": "zstd",
            "clevel": 1,
            "shuffle": "shuffle",
            "typesize": size,
            "blocksize": BLOSC_BLOCKSIZE,
        },
    }
    sharding = {
        "name": "sharding_indexed",
        "configuration": {
            "chunk_shape": list(layout.chunk),
            "codecs": [as_bytes, *([blosc] if layout.compression == "blosc" else []), _CRC],
            "index_codecs": [_BYTES, _CRC],
            "index_location": "end",
        },
    }
    return _array(
        list(layout.shape),
        list(layout.shard),
        layout.storage,
        list(layout.axes),
        [sharding],
        {"logical_dtype": layout.logical, "captured_dtype": layout.captured},
    )


def zarr_documents(
    layouts: Mapping[str, ArrayLayout], ragged_axes: list[str], samples: int
) -> dict[str, bytes]:
    """Every ``zarr.json`` of a store, by path relative to the store's folder."""
    nodes = {path: _sharded(layout) for path, layout in layouts.items()}
    for axis in ragged_axes:
        nodes[f"length/{axis}"] = _array(
            [samples], [samples], "int64", ["sample"], [_BYTES, _CRC], {"logical_dtype": "int64"}
        )
    for group in {path.partition("/")[0] for path in nodes if "/" in path}:
        nodes[group] = _GROUP
    root = {
        **_GROUP,
        "consolidated_metadata": {
            "kind": "inline",
            "must_understand": False,
            "metadata": dict(sorted(nodes.items())),
        },
    }
    documents = {f"features.zarr/{path}/zarr.json": canonical_json(n) for path, n in nodes.items()}
    return {"features.zarr/zarr.json": canonical_json(root), **documents}
