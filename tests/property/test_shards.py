"""Any array of any declared shape goes through a shard file and comes back, bit for bit."""

import itertools
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lamofcbench.layout import ArrayLayout
from lamofcbench.spec import ProfileSpec
from lamofcbench.store.shard import ShardFileReader, ShardFileWriter, shard_header
from tests import stores

DTYPES = ["bfloat16", "float16", "float32", "float64", "uint8", "int16", "int32", "int64"]
AXES = ["token", "head", "dim", "crop", "channel", "height"]


@st.composite
def layouts(draw: Any) -> tuple[ArrayLayout, list[int]]:
    axes = draw(st.lists(st.sampled_from(AXES), min_size=1, max_size=3, unique=True))
    ragged = draw(st.sampled_from([None, *axes]))
    sizes = [draw(st.integers(1, 40)) for _ in axes]
    if draw(st.booleans()):
        # Rows so wide that a sample has several chunks.
        sizes[-1] = draw(st.integers(1, 3)) * 30_000 if axes[-1] != ragged else sizes[-1]
    most = sizes[axes.index(ragged)] if ragged else 1
    shape = [axis if axis == ragged else n for axis, n in zip(axes, sizes, strict=True)]
    dtype = draw(st.sampled_from(DTYPES))
    spec = stores.profile(
        ragged={ragged: {"max": most, "typical": 1}} if ragged else {},
        keys=[stores.tensor("x", axes, shape, dtype)],
        compression=draw(st.sampled_from(["blosc", "none"])),
        context=[],
        reference_arrays=[],
        modes={"all": {"keys": ["x"]}},
    )
    per_shard = draw(st.integers(1, 4))
    lengths = draw(st.lists(st.integers(0, most), min_size=1, max_size=per_shard))
    return ArrayLayout.build("x", _only(spec), spec, 9, per_shard), lengths


def _only(spec: ProfileSpec) -> Any:
    (tensor,) = spec.keys
    return tensor


def bits(layout: ArrayLayout, length: int, seed: int) -> Any:
    """Random bits, so NaN payloads, signed zeros and infinities too; some all zeros."""
    shape = layout.stored_shape({layout.ragged_axis: length} if layout.ragged_axis else {})
    size = int(np.prod(shape)) * np.dtype(layout.storage).itemsize
    random = np.random.default_rng(seed)
    data = bytes(size) if seed % 5 == 0 else random.bytes(size)
    return np.frombuffer(data, layout.storage).reshape(shape)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(layouts(), st.integers(0, 1000))
def test_round_trip(drawn: tuple[ArrayLayout, list[int]], seed: int) -> None:
    layout, lengths = drawn
    header = shard_header("toy-llm", "tiny", "x", 0, "0" * 64)
    samples = [bits(layout, n, seed + i) if n else None for i, n in enumerate(lengths)]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "shard"
        writer = ShardFileWriter(path, layout, header)
        for sample in samples:
            writer.append(sample)
        entry = writer.finish()
        assert entry.bytes == path.stat().st_size
        reader = ShardFileReader(path, layout, header, lengths, entry.bytes, "mend")
        for slot, sample in enumerate(samples):
            if sample is not None:
                found = reader.read(slot, sample.shape)
                assert found.dtype == sample.dtype
                assert found.tobytes() == sample.tobytes()


@settings(max_examples=100, deadline=None)
@given(layouts())
def test_a_chunk_exists_if_and_only_if_it_overlaps_the_length(
    drawn: tuple[ArrayLayout, list[int]],
) -> None:
    layout, lengths = drawn
    for length in lengths:
        sizes = [length if i == layout.ragged_index else n for i, n in enumerate(layout.shape[1:])]
        places = itertools.product(*(range(n) for n in layout.grid))
        for at, there in zip(places, layout.present(length), strict=True):
            starts = [p * c for p, c in zip(at, layout.chunk[1:], strict=True)]
            overlaps = all(s < n for s, n in zip(starts, sizes, strict=True))
            assert there == (overlaps and length > 0)
