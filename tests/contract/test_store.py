"""A finished store, seen from outside: our loader, zarr-python, tensorstore, an external judge."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import tensorstore
import torch
import zarr

from lamofcbench import load_dataset
from lamofcbench.bits import to_storage
from lamofcbench.layout import ArrayLayout
from lamofcbench.manifest import Manifest
from lamofcbench.store.state import load_state
from tests import stores

JUDGE = Path(__file__).parents[2].parent / "shared" / "tools" / "check_store.py"


def rows(archive: Path) -> list[int]:
    draft = load_state(archive / stores.CONFIG / "tiny").draft
    return [row for row in range(draft.samples) if row != stores.SKIPPED_ROW]


def stored_order(value: object, layout: ArrayLayout, path: str) -> np.ndarray:
    array = to_storage(value, layout.captured, layout.logical, path)
    return np.transpose(array, np.argsort(layout.native_order))


@pytest.mark.parametrize("compression", ["blosc", "none"])
def test_every_value_comes_back_bit_for_bit(compression: str, tmp_path: Path) -> None:
    stores.write(tmp_path, stores.profile(compression=compression))
    seen = 0
    for split in ("calibration", "test", "train"):
        for item in load_dataset(tmp_path, stores.CONFIG, split=split):
            want = stores.sample(item["index"])
            assert item["id"] == want.id
            got = {
                **item["features"],
                **{f"context/{name}": value for name, value in item["context"].items()},
                "reference/mask": item["reference"]["mask"],
            }
            assert got.keys() == want.arrays.keys()
            for path, value in want.arrays.items():
                value = torch.as_tensor(value)
                assert got[path].dtype == value.dtype
                assert torch.equal(got[path], value), path
            assert item["reference"]["label"] == want.reference["label"]
            assert item["reference"]["answers"] == want.reference["answers"]
            seen += 1
    assert seen == 35


def test_an_all_zero_sample_is_there(pristine: Path) -> None:
    (item,) = load_dataset(pristine, stores.CONFIG, split="calibration", samples=[stores.ZERO_ROW])
    assert item["features"]["state"].shape == (300, 1000)
    assert not item["features"]["state"].any()


def test_zarr_python_reads_the_same(pristine: Path) -> None:
    state = load_state(pristine / stores.CONFIG / "tiny")
    group = zarr.open_group(state.store / "features.zarr", mode="r", use_consolidated=True)
    for path, layout in state.draft.layouts.items():
        array = group[path]
        assert array.shape == layout.shape
        assert array.metadata.dimension_names == layout.axes
        for row in rows(pristine)[:20]:
            want = stored_order(stores.sample(row).arrays[path], layout, path)
            index = (row, *(slice(0, n) for n in want.shape))
            np.testing.assert_array_equal(array[index], want)
    lengths = group["length/token"][:]
    assert lengths.tolist() == [state.lengths(row)["token"] for row in range(len(lengths))]


def test_tensorstore_reads_the_same(pristine: Path) -> None:
    state = load_state(pristine / stores.CONFIG / "tiny")
    for path, layout in state.draft.layouts.items():
        array = tensorstore.open(
            {
                "driver": "zarr3",
                "kvstore": {"driver": "file", "path": str(state.store / "features.zarr" / path)},
            },
            open=True,
            read=True,
        ).result()
        assert tuple(array.domain.labels) == layout.axes
        for row in rows(pristine)[:20]:
            want = stored_order(stores.sample(row).arrays[path], layout, path)
            index = (row, *(slice(0, n) for n in want.shape))
            np.testing.assert_array_equal(array[index].read().result(), want)


def test_tables_say_what_the_samples_are(pristine: Path) -> None:
    table = pq.read_table(pristine / stores.CONFIG / "tiny" / "samples-test.parquet")
    assert table.num_rows == 20
    row = table.to_pylist()[1]
    assert row["id"] == "toy-005"
    assert (row["status"], row["reason"], row["length_token"]) == (
        "skipped",
        "it is a bad one",
        None,
    )
    assert table.to_pylist()[0]["reference_answers"] == ["a4", "b"]
    # One row group a shard, so that one shard's rows can be fetched alone: rows 4-15 and 16-23.
    groups = pq.ParquetFile(pristine / stores.CONFIG / "tiny" / "samples-test.parquet").metadata
    assert [groups.row_group(i).num_rows for i in range(groups.num_row_groups)] == [12, 8]


def test_what_all_samples_share_is_recorded(pristine: Path) -> None:
    manifest = load_state(pristine / stores.CONFIG / "tiny").draft
    assert isinstance(manifest, Manifest)
    assert manifest.constant_keys == ["views"]
    prompts = [stores.sample(row).token_ids for row in rows(pristine)]
    shared = 0
    while len({tuple(p[: shared + 1]) for p in prompts}) == 1:
        shared += 1
    assert manifest.shared_prefix == shared > 0
    row = pq.read_table(pristine / stores.CONFIG / "tiny" / "samples-test.parquet").to_pylist()[0]
    assert row["token_ids"] == stores.sample(4).token_ids


@pytest.mark.skipif(not JUDGE.is_file(), reason="the independent judge is not beside the checkout")
@pytest.mark.parametrize("compression", ["blosc", "none"])
def test_an_independent_judge_finds_no_fault(compression: str, tmp_path: Path) -> None:
    store = stores.write(tmp_path, stores.profile(compression=compression))
    done = subprocess.run(
        [sys.executable, JUDGE, store], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout
    assert "0 faults" in done.stdout
