"""`load_dataset` as its users meet it."""

import functools
import pickle
from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader

from lamofcbench import collate, load_dataset
from lamofcbench.errors import (
    ArchiveNotFoundError,
    MiniatureArchiveWarning,
    SelectionError,
    UnknownNameError,
)
from tests import stores

CONFIG = stores.CONFIG


def test_selection_by_samples_and_tensors(pristine: Path) -> None:
    ds = load_dataset(pristine, CONFIG, tensors=["layer.1.output"], samples=range(3))
    # The second test sample, store row 5, was skipped: a position, but not served.
    assert [item["index"] for item in ds] == [4, 6]
    assert list(ds[0]["features"]) == ["layer.1.output"]
    assert list(ds[0]["context"]) == ["token_ids"]
    assert len(load_dataset(pristine, CONFIG, samples="2:5")) == 3
    assert load_dataset(pristine, CONFIG, samples=[-1])[0]["index"] == 23
    caches = load_dataset(pristine, CONFIG, tensors=["layer.*.k_cache"])
    assert caches.keys == ["layer.0.k_cache", "layer.1.k_cache"]


def test_a_name_matches_itself_alone(pristine: Path) -> None:
    with pytest.raises(UnknownNameError, match=r"unknown tensor 'layer\.1'.*layer\.1\.output"):
        load_dataset(pristine, CONFIG, tensors=["layer.1"])


def test_native_layout_dtype_and_lengths(pristine: Path) -> None:
    item = load_dataset(pristine, CONFIG)[0]
    tokens = item["lengths"]["token"]
    assert item["features"]["layer.0.k_cache"].shape == (2, tokens, 4)
    assert item["features"]["layer.0.k_cache"].dtype == torch.bfloat16
    assert item["features"]["layer.2.output"].dtype == torch.float32
    assert item["features"]["views"].dtype == torch.float16
    assert item["context"]["token_ids"].shape == (tokens,)
    assert item["reference"]["mask"].shape == (item["lengths"]["pixel"],)
    item["features"]["layer.0.k_cache"].zero_()  # each read is the caller's own
    assert load_dataset(pristine, CONFIG)[0]["features"]["layer.0.k_cache"].any()


@pytest.mark.parametrize(
    ("samples", "says"),
    [([20], "sample 20: split test of toy-llm holds 20"), ("a:b", "expected"), ([1, 1], "twice")],
)
def test_a_wrong_selection_is_one_line(pristine: Path, samples: object, says: str) -> None:
    with pytest.raises(SelectionError, match=says):
        load_dataset(pristine, CONFIG, samples=samples)  # type: ignore[arg-type]


def test_wrong_names_list_near_matches(pristine: Path) -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'toy-llm'"):
        load_dataset(pristine, "toy-lm")
    with pytest.raises(UnknownNameError, match="Did you mean 'tiny'"):
        load_dataset(pristine, CONFIG, profile="tinny")
    with pytest.raises(UnknownNameError, match="Did you mean 'test'"):
        load_dataset(pristine, CONFIG, split="tests")
    with pytest.raises(UnknownNameError, match="toy-llm"):
        load_dataset(pristine)


def test_what_an_archive_lacks_is_an_error_with_the_command(pristine: Path) -> None:
    with pytest.raises(ArchiveNotFoundError, match="make extract SCENARIO=vqa-mllm ARCHIVE="):
        load_dataset(pristine, "vqa-mllm")
    with pytest.raises(ArchiveNotFoundError, match="PROFILE=full"):
        load_dataset(pristine, CONFIG, profile="full")


def test_the_default_archive(
    pristine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("LAMOFCBENCH_ARCHIVE", raising=False)
    with pytest.warns(MiniatureArchiveWarning, match="make extract SCENARIO="):
        assert len(load_dataset("lamofcbench", "vqa-mllm")) == 3
    (tmp_path / "cache" / "lamofcbench").mkdir(parents=True)
    (tmp_path / "cache" / "lamofcbench" / "archive").symlink_to(pristine)
    assert len(load_dataset("lamofcbench", CONFIG)) == 19
    (tmp_path / "archive").mkdir()
    with pytest.raises(UnknownNameError):  # the first that exists answers, with no fall-through
        load_dataset("lamofcbench", CONFIG)
    monkeypatch.setenv("LAMOFCBENCH_ARCHIVE", str(pristine))
    assert len(load_dataset("lamofcbench", CONFIG)) == 19
    monkeypatch.setenv("LAMOFCBENCH_ARCHIVE", str(tmp_path / "nothing"))
    with pytest.raises(ArchiveNotFoundError, match="LAMOFCBENCH_ARCHIVE names"):
        load_dataset("lamofcbench", CONFIG)


def test_full_comes_before_tiny(
    pristine: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    stores.write(tmp_path, stores.profile(test=3), "full")
    stores.write(tmp_path, stores.profile(test=4), "x-mine")
    stores.write(tmp_path, stores.profile(test=5), "tiny")
    assert load_dataset(tmp_path, CONFIG).profile == "full"
    assert "using profile full of full, x-mine, tiny" in caplog.text
    assert load_dataset(tmp_path, CONFIG, profile="x-mine").profile == "x-mine"


def test_batches_are_padded_with_lengths(pristine: Path) -> None:
    ds = load_dataset(pristine, CONFIG)
    batch = next(iter(DataLoader(ds, batch_size=4, collate_fn=collate)))
    tokens = batch["lengths"]["token"]
    cache = batch["features"]["layer.0.k_cache"]
    assert cache.shape == (4, 2, int(tokens.max()), 4)
    assert cache.dtype == torch.bfloat16
    for i, item in enumerate(ds[p] for p in range(4)):
        own = item["features"]["layer.0.k_cache"]
        assert torch.equal(cache[i, :, : tokens[i]], own)
        assert not cache[i, :, tokens[i] :].any()
    assert batch["reference"]["label"].tolist() == [4, 6, 7, 8]
    assert batch["reference"]["answers"][0] == ["a4", "b"]


def test_batches_may_stay_lists(pristine: Path) -> None:
    ds = load_dataset(pristine, CONFIG)
    loader = DataLoader(ds, batch_size=3, collate_fn=functools.partial(collate, padded=False))
    batch = next(iter(loader))
    for i, output in enumerate(batch["features"]["layer.1.output"]):
        assert torch.equal(output, ds[i]["features"]["layer.1.output"])


@pytest.mark.parametrize(("workers", "method"), [(2, "fork"), (2, "spawn"), (1, "forkserver")])
def test_workers_give_identical_batches(pristine: Path, workers: int, method: str) -> None:
    ds = load_dataset(pristine, CONFIG)
    ds[0]  # opened in the parent: maps must not break across fork
    alone = list(DataLoader(ds, batch_size=4, collate_fn=collate))
    shared = DataLoader(
        ds, batch_size=4, collate_fn=collate, num_workers=workers, multiprocessing_context=method
    )
    count = 0
    for one, other in zip(alone, shared, strict=True):
        assert one["id"] == other["id"]
        for part in ("features", "context"):
            for name, value in one[part].items():
                assert torch.equal(value, other[part][name])
        count += 1
    assert count == 5


def test_it_pickles_as_its_path(pristine: Path) -> None:
    ds = load_dataset(pristine, CONFIG)
    ds[0]
    data = pickle.dumps(ds)
    assert len(data) < 2000
    again = pickle.loads(data)
    assert torch.equal(again[1]["features"]["state"], ds[1]["features"]["state"])
    assert repr(again) == repr(ds)
