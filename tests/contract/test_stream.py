"""Streaming from a local Hub: the same items as from disk, few bytes, whatever goes wrong."""

import json
import logging
import multiprocessing
import pickle
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from torch.utils.data import DataLoader

from lamofcbench import FeatureDataset, load_dataset
from lamofcbench.atomic import sha256_bytes
from lamofcbench.errors import (
    ArchiveNotFoundError,
    HubError,
    IntegrityError,
    LamofcError,
    SelectionError,
    UnknownNameError,
)
from lamofcbench.hub import ranges
from lamofcbench.store.footer import single_group_footers
from lamofcbench.store.lanes import Lanes, Once
from lamofcbench.store.writer import Sample, StoreWriter
from tests import stores
from tests.hub import LocalHub
from tests.hub_http import Handler
from tests.hub_parts import Fault

REPO = "org/toys"
TOKEN = "hf_aKnownStringThatMustNotShow"
PAST = Path(__file__).parents[1] / "archives" / "v1"


def publish(hub: LocalHub, repo: str, archive: Path) -> None:
    hub.create(repo)
    files = {
        path.relative_to(archive).as_posix(): path.read_bytes()
        for path in archive.rglob("*")
        if path.is_file()
    }
    hub.put(repo, files)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    archive = tmp_path_factory.mktemp("small")
    stores.write(archive, stores.small())
    return archive


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, small: Path) -> Iterator[LocalHub]:
    with LocalHub(tmp_path_factory.mktemp("hub")) as hub:
        publish(hub, REPO, small)
        yield hub


@pytest.fixture
def hub(server: LocalHub, monkeypatch: pytest.MonkeyPatch) -> LocalHub:
    server.reset()
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setattr(ranges, "FIRST_PAUSE", 0.001)
    return server


def stream(**options: Any) -> FeatureDataset:
    return load_dataset(REPO, stores.CONFIG, streaming=True, **{"profile": "tiny", **options})


def equal(one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor):
        same = one.dtype == other.dtype and one.shape == other.shape
        return same and one.numpy(force=True).tobytes() == other.numpy(force=True).tobytes()
    if isinstance(one, dict):
        return list(one) == list(other) and all(equal(one[key], other[key]) for key in one)
    return type(one) is type(other) and one == other


def bits(value: Any) -> Any:
    """numpy has no bfloat16, so compare bits."""
    if isinstance(value, torch.Tensor) and value.dtype == torch.bfloat16:
        return value.view(torch.int16)
    if isinstance(value, dict):
        return {key: bits(inner) for key, inner in value.items()}
    return value


def same_items(found: Any, wanted: Any) -> bool:
    return all(equal(bits(a), bits(b)) for a, b in zip(found, wanted, strict=True))


# The same as from disk


@pytest.mark.parametrize("split", ["calibration", "test", "train"])
def test_items_are_those_on_disk(hub: LocalHub, small: Path, split: str) -> None:
    streamed, local = stream(split=split), load_dataset(small, stores.CONFIG, split=split)
    assert same_items(streamed, local)
    assert same_items([streamed[-1], streamed[0]], [local[-1], local[0]])
    assert (streamed.config, streamed.profile) == (local.config, local.profile)
    assert streamed.source_sha256(0) == local.source_sha256(0)


def test_tensors_of_several_chunks(hub: LocalHub, pristine: Path) -> None:
    publish(hub, "org/chunks", pristine)
    pick = {"samples": [2, -1], "tensors": ["layer.1.*", "state"]}
    found = load_dataset("org/chunks", stores.CONFIG, streaming=True, **pick)
    assert same_items(found, load_dataset(pristine, stores.CONFIG, **pick))


def test_large_ranges_come_in_pieces(
    hub: LocalHub, pristine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ranges, "PIECE_BYTES", 20_000)
    publish(hub, "org/chunks", pristine)
    pick = {"samples": [2], "tensors": ["state"]}
    found = load_dataset("org/chunks", stores.CONFIG, streaming=True, **pick)
    assert same_items(found, load_dataset(pristine, stores.CONFIG, **pick))
    assert len([r for r in hub.seen("GET", "/cdn/") if "/state/" in r.path]) > 4


def test_a_store_of_the_past_streams(hub: LocalHub) -> None:
    publish(hub, "org/past", PAST)
    found = load_dataset("org/past", stores.CONFIG, streaming=True)
    assert same_items(found, load_dataset(PAST, stores.CONFIG))


def test_selection_and_subset(hub: LocalHub, small: Path) -> None:
    pick = {"samples": "3:7", "tensors": ["views"], "split": "train"}
    streamed, local = stream(**pick), load_dataset(small, stores.CONFIG, **pick)
    assert same_items(streamed, local)
    ids = [local[2]["id"], local[0]["id"]]
    assert same_items(streamed.subset(ids), local.subset(ids))
    assert len(hub.seen("GET", "manifest.json")) == 2
    with pytest.raises(SelectionError):
        stream(samples=[99])
    with pytest.raises(UnknownNameError):
        stream(tensors=["layer.9"])


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_workers_read_the_same(hub: LocalHub, small: Path, method: str) -> None:
    streamed, local = stream(samples="0:6"), load_dataset(small, stores.CONFIG, samples="0:6")
    # The parent's connections and threads exist by now, and must not trouble the workers.
    assert len(list(streamed)) == len(local)
    loader = DataLoader(
        streamed,
        batch_size=2,
        num_workers=2 if method == "fork" else 1,
        collate_fn=list,
        multiprocessing_context=multiprocessing.get_context(method),
        timeout=60,
    )
    assert same_items([item for batch in loader for item in batch], local)


def test_a_folder_is_simply_read(hub: LocalHub, small: Path) -> None:
    streamed = load_dataset(small, stores.CONFIG, streaming=True)
    assert same_items(streamed, load_dataset(small, stores.CONFIG))
    assert not hub.requests


# One revision


def test_one_data_set_reads_one_revision(hub: LocalHub, small: Path) -> None:
    publish(hub, "org/moving", small)
    old = load_dataset("org/moving", stores.CONFIG, streaming=True)
    first = hub.resolve("org/moving", "main")
    hub.put("org/moving", {f"{stores.CONFIG}/tiny/manifest.json": None})
    local = load_dataset(small, stores.CONFIG)
    assert same_items(pickle.loads(pickle.dumps(old)), local)
    with pytest.raises(IntegrityError, match="halves"):
        load_dataset("org/moving", stores.CONFIG, streaming=True)
    hub.tag("org/moving", "v1", str(first))
    for revision in ("v1", first):
        again = load_dataset("org/moving", stores.CONFIG, streaming=True, revision=revision)
        assert same_items([again[0]], [local[0]])


def test_full_comes_before_tiny(hub: LocalHub, tmp_path: Path) -> None:
    for name in ("tiny", "x-mine"):
        stores.write(tmp_path, stores.small(), name)
    publish(hub, "org/many", tmp_path)
    options = {"streaming": True, "samples": [0]}
    assert load_dataset("org/many", stores.CONFIG, **options).profile == "tiny"
    assert load_dataset("org/many", stores.CONFIG, profile="x-mine", **options)[0]["id"]
    stores.write(tmp_path, stores.small(), "full")
    publish(hub, "org/many", tmp_path)
    assert load_dataset("org/many", stores.CONFIG, **options).profile == "full"
    assert not hub.seen("GET", "/api/")


# Bytes


def large(archive: Path, tokens: int = 178) -> Path:
    """300 shard files, 205 MB: each sample is a shard, for its declared typical size is large."""
    keys = [stores.tensor("layer.{0,1,2}.output", ["token", "dim"], ["token", 3200], "bfloat16")]
    spec = stores.profile(
        samples={"calibration": 2, "test": 58, "train": 0},
        ragged={"token": {"max": 40000, "typical": 40000}, "pixel": {"max": 900, "typical": 300}},
        keys=keys,
        modes={"all": {"keys": ["layer.0.output"], "context": ["token_ids"]}},
        compression="blosc",
    )
    asked = stores.draft(spec, "full")
    noise = np.random.default_rng(0).integers(-(1 << 15), 1 << 15, (400, 3200), np.int16)

    def sample(row: int) -> Sample:
        def cut(key: int) -> torch.Tensor:
            return torch.from_numpy(noise[3 * row + key :][:tokens]).view(torch.bfloat16)

        arrays = {f"layer.{key}.output": cut(key) for key in range(3)}
        arrays["context/token_ids"] = np.arange(tokens)
        arrays["reference/mask"] = noise[row, :900].astype(np.uint8)
        reference = {"label": row, "answers": ["a", "b"]}
        rest = (f"input {row}", f"record {row}", sha256_bytes(bytes([row])), list(range(tokens)))
        return Sample(f"toy-{row:03}", arrays, reference, *rest)

    store = archive / stores.CONFIG / "full"
    with StoreWriter(store, asked) as writer:
        for shard in writer.pending():
            writer.write_shard(shard, map(sample, asked.shard_rows(shard)))
        writer.finalise()
    return store


def test_one_tensor_costs_little_more_than_its_bytes(hub: LocalHub, tmp_path: Path) -> None:
    store = large(tmp_path)
    manifest = json.loads((store / "manifest.json").read_bytes())
    shards = {path: n for path, n in manifest["files"].items() if "/c/" in path[:-2]}
    shards = {path: n for path, n in shards.items() if "/length/" not in path}
    assert len(shards) == 300
    assert sum(n["bytes"] for n in shards.values()) > 200_000_000
    publish(hub, "org/large", tmp_path)
    local = load_dataset(tmp_path, stores.CONFIG)
    shutil.rmtree(store / "features.zarr" / "layer.0.output")
    for position in (0, 57):
        hub.reset()
        pick = {"samples": [position], "tensors": ["layer.1.output"]}
        found = load_dataset("org/large", stores.CONFIG, streaming=True, **pick)
        (item,) = found
        stored = shards[f"features.zarr/layer.1.output/c/{position + 2}/0/0"]["bytes"]
        # The budget is a tenth of the tensor and 96 KB; most of this is the manifest.
        assert hub.sent <= stored + 70_000
        assert not hub.seen("GET", "/api/")
        want = local._reader.read("layer.1.output", position + 2)
        assert equal(bits(item["features"]["layer.1.output"]), bits(want))
    hub.reset()
    second = FeatureDataset(found.store, "test", ["layer.2.output"], [position + 2], found._reader)
    assert second[0]["id"] == item["id"]
    assert not hub.seen("GET", "manifest") + hub.seen("GET", "parquet")
    stored = shards[f"features.zarr/layer.2.output/c/{position + 2}/0/0"]["bytes"]
    assert hub.sent <= stored + 5000


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    archive = tmp_path_factory.mktemp("many")
    large(archive, tokens=2)
    return archive


@pytest.mark.parametrize("statistics", [False, True])
def test_rows_come_without_the_whole_footer(
    hub: LocalHub, many: Path, tmp_path: Path, statistics: bool
) -> None:
    archive = tmp_path / "archive"
    shutil.copytree(many, archive)
    store = archive / stores.CONFIG / "full"
    table = store / "samples-test.parquet"
    if statistics:
        # As stores of the past have it: longer entries, of more varied length.
        rows = pq.ParquetFile(table)
        with pq.ParquetWriter(tmp_path / "old", rows.schema_arrow, compression="zstd") as writer:
            for group in range(rows.num_row_groups):
                writer.write_table(rows.read_row_group(group))
        data = (tmp_path / "old").read_bytes()
        table.write_bytes(data)
        manifest = json.loads((store / "manifest.json").read_bytes())
        entry = {"bytes": len(data), "sha256": sha256_bytes(data)}
        manifest["files"]["samples-test.parquet"] = entry
        changed = json.dumps(manifest).encode()
        (store / "manifest.json").write_bytes(changed)
        line = f"{sha256_bytes(changed)}  manifest.json\n"
        (store / "manifest.json.sha256").write_text(line)
    repo = f"org/many-{statistics}"
    publish(hub, repo, archive)
    size = table.stat().st_size
    names = {"streaming": True, "tensors": ["layer.0.output"]}
    local = load_dataset(archive, stores.CONFIG, tensors=["layer.0.output"])
    for position in (0, 1, 30, 56, 57):
        hub.reset()
        found = load_dataset(repo, stores.CONFIG, **names)
        assert same_items([found[position]], [local[position]])
        read = sum(r.sent for r in hub.seen("GET", "parquet"))
        # The last entry may stand too far off, and cost a look at all of them.
        assert read < size / 6 or (statistics and position == 57)
    hub.reset()
    assert same_items(load_dataset(repo, stores.CONFIG, **names), local)
    assert sum(r.sent for r in hub.seen("GET", "parquet")) < 1.5 * size


@pytest.mark.parametrize("cut", [0, 1, 100, 400])
def test_any_bytes_may_stand_in_a_footer(cut: int) -> None:
    rng = np.random.default_rng(cut)
    for _ in range(50):
        noise = rng.integers(0, 256, 600, np.uint8).tobytes()
        assert single_group_footers(noise[:cut], noise[cut:]) == []
    assert single_group_footers(b"\x1c" * 5000, b"\x19\x1c" * 5000) == []


def test_the_next_samples_come_meanwhile(
    hub: LocalHub, small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = Handler._handle

    def later(handler: Handler) -> None:
        time.sleep(0.02)
        answer(handler)

    monkeypatch.setattr(Handler, "do_GET", later)
    took = []
    for read in (list, lambda found: [found[at] for at in range(len(found))]):
        found = stream(tensors=["views"])
        start = time.perf_counter()
        assert len(read(found)) == 19
        took.append(time.perf_counter() - start)
    assert took[0] < 0.7 * took[1]


def test_neighbours_come_together(hub: LocalHub, small: Path) -> None:
    found, local = stream(), load_dataset(small, stores.CONFIG)
    assert same_items(found, local)
    hub.reset()
    # 19 samples: one, then what was skipped, then the rest of that shard, then of the next.
    assert same_items(found, local)
    assert len(hub.seen("GET", "layer.0.k_cache")) == 3
    hub.reset()
    assert same_items([found[at] for at in range(len(found))], local)
    assert len(hub.seen("GET", "layer.0.k_cache")) == 19


def test_a_neighbour_that_comes_damaged_is_read_alone(hub: LocalHub, small: Path) -> None:
    found, local = stream(split="train"), load_dataset(small, stores.CONFIG, split="train")
    assert same_items([found[0], found[-1]], [local[0], local[-1]])
    hub.faults.append(Fault("corrupt", "layer.0.k_cache/c/1"))
    assert same_items(found, local)
    assert hub.faults[0].hits > 1


# Whatever goes wrong on the way


@pytest.mark.parametrize("kind", ["drop", "429", "503", "truncate", "corrupt", "etag", "slow"])
def test_a_fault_in_passing_changes_nothing(hub: LocalHub, small: Path, kind: str) -> None:
    for part in ("sha256", "manifest.json", "parquet", "views/c/", "mask/c/"):
        hub.faults.append(Fault(kind, part, times=2, retry_after=0.01))
    assert same_items(stream(samples="0:4"), load_dataset(small, stores.CONFIG, samples="0:4"))
    assert all(fault.hits for fault in hub.faults)


@pytest.mark.parametrize("part", ["manifest.json", "/cdn/"])
@pytest.mark.parametrize("kind", ["drop", "429", "503", "truncate", "corrupt"])
def test_a_fault_that_stays_ends_in_one_line(hub: LocalHub, kind: str, part: str) -> None:
    hub.faults.append(Fault(kind, part, times=10**6))
    with pytest.raises(LamofcError) as caught:
        list(stream())
    message = str(caught.value)
    assert "\n" not in message
    assert "org/toys" in message
    assert 20 < len(message) < 400


def test_a_long_wait_is_not_waited_for(hub: LocalHub) -> None:
    hub.faults.append(Fault("429", "manifest", times=10**6, retry_after=3600))
    with pytest.raises(HubError, match="3600 s"):
        stream()


def test_retry_after_is_obeyed(hub: LocalHub) -> None:
    hub.faults.append(Fault("429", "manifest.json.sha256", retry_after=0.3))
    start = time.perf_counter()
    stream()
    assert time.perf_counter() - start >= 0.3


@pytest.mark.parametrize("what", ["shifted", "whole", "longer"])
def test_only_the_range_that_was_asked_for_is_believed(
    hub: LocalHub, small: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    found = stream(samples=[0])
    content, wrong = Handler._content, []

    def once(handler: Handler, blob: Path, headers: dict[str, str]) -> None:
        asked = handler.headers.get("Range")
        if asked and len(wrong) < 3:
            first, last = (int(n) for n in asked.removeprefix("bytes=").split("-"))
            changed = {"shifted": (first + 1, last + 1), "longer": (first, last + 1)}
            del handler.headers["Range"]
            if what in changed:
                handler.headers["Range"] = "bytes={}-{}".format(*changed[what])
            wrong.append(asked)
        content(handler, blob, headers)

    monkeypatch.setattr(Handler, "_content", once)
    assert same_items(found, load_dataset(small, stores.CONFIG, samples=[0]))
    assert len(wrong) == 3


def test_an_old_redirect_is_asked_for_again(
    hub: LocalHub, small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, local = stream(), load_dataset(small, stores.CONFIG)
    assert same_items([found[0]], [local[0]])
    cdn, refused = Handler.cdn, []

    def expired(handler: Handler, body: bytes, sha256: str, path: str) -> None:
        if len(refused) < 4:
            refused.append(path)
            handler._reply(403, b"expired", {})
        else:
            cdn(handler, body, sha256, path)

    monkeypatch.setattr("tests.hub_http._ROUTES", patched(expired))
    assert same_items([found[1]], [local[1]])
    assert len(refused) == 4


def patched(cdn: Any) -> list[Any]:
    from tests import hub_http

    return [(p, cdn if m is Handler.cdn else m) for p, m in hub_http._ROUTES]


# One line for every mistake


def test_mistakes_get_one_line(hub: LocalHub, small: Path, tmp_path: Path) -> None:
    def line(error: type[Exception], repo: str, config: str, **options: Any) -> str:
        with pytest.raises(error) as caught:
            load_dataset(repo, config, streaming=True, **options)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    assert "hf auth login" in line(ArchiveNotFoundError, "org/nothing", stores.CONFIG)
    assert "no revision v9" in line(ArchiveNotFoundError, REPO, stores.CONFIG, revision="v9")
    assert "full or tiny" in line(ArchiveNotFoundError, REPO, "vqa-mllm")
    assert "as full" in line(ArchiveNotFoundError, REPO, "vqa-mllm", profile="full")
    assert "vqa-mllm" in line(UnknownNameError, REPO, "vqa-mlm")
    for bad in ("../secret", "A", ""):
        line(UnknownNameError, REPO, bad)
    assert "tiny" in line(UnknownNameError, REPO, stores.CONFIG, profile="../x")
    assert "no revisions" in line(ArchiveNotFoundError, str(small), stores.CONFIG, revision="v1")
    line(ArchiveNotFoundError, str(tmp_path / "none" / "such"), stores.CONFIG)
    with pytest.raises(UnknownNameError):
        load_dataset(REPO, streaming=True)


def test_no_server_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(ranges, "FIRST_PAUSE", 0.001)
    with pytest.raises(HubError, match="Check the network"):
        stream()


def test_a_missing_or_foreign_file_is_named(hub: LocalHub, small: Path) -> None:
    publish(hub, "org/holes", small)
    shard = f"{stores.CONFIG}/tiny/features.zarr/views/c/1/0/0"
    other = f"{stores.CONFIG}/tiny/features.zarr/views/c/0/0/0"
    hub.put("org/holes", {shard: None})
    found = load_dataset("org/holes", stores.CONFIG, streaming=True, tensors=["views"])
    with pytest.raises(IntegrityError, match=r"views/c/1/0/0: missing"):
        list(found)
    hub.put("org/holes", {shard: hub.read("org/holes", other)})
    found = load_dataset("org/holes", stores.CONFIG, streaming=True, tensors=["views"])
    with pytest.raises(HubError, match=r"views/c/1/0/0: .* expected"):
        list(found)


@pytest.mark.parametrize("what", ["shape", "chunk", "length", "profile", "table"])
def test_a_hostile_manifest_is_refused(hub: LocalHub, small: Path, what: str) -> None:
    folder = f"{stores.CONFIG}/tiny"
    manifest = json.loads((small / folder / "manifest.json").read_bytes())
    array = manifest["keys"]["views"]
    if what == "shape":
        array["shape"][1] = 1 << 50
    elif what == "chunk":
        array["chunk_shape"][1] = 0
    elif what == "length":
        manifest["shards"][0]["lengths"]["token"][0] = 1 << 50
    elif what == "profile":
        manifest["profile"] = "full"
    else:
        manifest["files"]["samples-test.parquet"]["bytes"] = 1 << 50
    data = json.dumps(manifest).encode()
    repo = f"org/hostile-{what}"
    publish(hub, repo, small)
    line = f"{sha256_bytes(data)}  manifest.json\n".encode()
    hub.put(repo, {f"{folder}/manifest.json": data, f"{folder}/manifest.json.sha256": line})
    with pytest.raises(IntegrityError) as caught:
        load_dataset(repo, stores.CONFIG, streaming=True)[0]
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("what", ["id", "bits"])
def test_a_table_must_agree_with_the_manifest(
    hub: LocalHub, small: Path, tmp_path: Path, what: str
) -> None:
    shutil.copytree(small, tmp_path / "copy")
    folder = tmp_path / "copy" / stores.CONFIG / "tiny"
    manifest = json.loads((folder / "manifest.json").read_bytes())
    table = folder / "samples-test.parquet"
    if what == "id":
        manifest["shards"][0]["samples"][6] = "another"
    else:
        data = bytearray(table.read_bytes())
        at = data.index(b"toy input 6") if b"toy input 6" in data else 200
        data[at] ^= 1
        table.write_bytes(data)
        entry = {"bytes": len(data), "sha256": sha256_bytes(bytes(data))}
        manifest["files"]["samples-test.parquet"] = entry
    data = json.dumps(manifest).encode()
    (folder / "manifest.json").write_bytes(data)
    (folder / "manifest.json.sha256").write_text(f"{sha256_bytes(data)}  manifest.json\n")
    publish(hub, f"org/table-{what}", tmp_path / "copy")
    with pytest.raises(IntegrityError, match=r"samples-test\.parquet: "):
        list(load_dataset(f"org/table-{what}", stores.CONFIG, streaming=True))


# The token


def test_the_token_goes_to_the_hub_alone(hub: LocalHub, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    found = stream()
    assert len(list(found)) == 19
    assert all(r.authorised == r.path.startswith("/datasets/") for r in hub.requests)
    shown = [repr(found), repr(vars(found)), repr(vars(found._reader)), caplog.text]
    shown += [repr(vars(vars(found._reader)["remote"].client)), str(pickle.dumps(found))]
    hub.faults.append(Fault("503", times=10**6))
    with pytest.raises(HubError) as caught:
        stream()
    shown += [str(caught.value), repr(caught.value), caplog.text]
    assert not [text for text in shown if TOKEN in text]


def test_a_malformed_token_is_not_quoted(hub: LocalHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_sécret")
    with pytest.raises(HubError) as caught:
        stream()
    assert "cret" not in str(caught.value)


def test_a_private_repository_opens_with_the_token(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with LocalHub(tmp_path / "hub", token=TOKEN) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        hub.create(REPO, private=True)
        publish(hub, REPO, small)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        assert stream()[0]["id"]
        monkeypatch.setenv("HF_TOKEN", "hf_another")
        with pytest.raises(ArchiveNotFoundError, match="HF_TOKEN"):
            stream()


# At once, ahead, only once


def test_near_ranges_are_joined() -> None:
    asked = [(500, 600), (0, 64), (80, 90), (5000, 5001)]
    assert ranges.coalesce(asked, gap=16) == [(0, 90), (500, 600), (5000, 5001)]
    assert ranges.coalesce(asked, gap=0) == sorted(asked)


def test_what_waits_is_bounded() -> None:
    begun: list[int] = []
    lock = threading.Lock()

    def make(n: int) -> int:
        with lock:
            begun.append(n)
        return n

    lanes = Lanes(4)
    for weight, most in ((1, 4), (40, 2), (1000, 1)):
        begun.clear()
        out = lanes.ahead(make, range(12), lambda _, w=weight: w, 100)
        for taken in range(12):
            assert next(out) == taken
            time.sleep(0.002)
            assert len(begun) <= taken + 1 + most
        assert sorted(begun) == list(range(12))


def test_a_failure_stops_what_has_not_begun() -> None:
    begun: list[int] = []

    def make(n: int) -> int:
        begun.append(n)
        if n == 2:
            raise ValueError("two")
        time.sleep(0.001)
        return n

    with pytest.raises(ValueError, match="two"):
        list(Lanes(2).ahead(make, range(100), lambda _: 1, 100))
    with pytest.raises(ValueError, match="two"):
        Lanes(2).map(make, range(100))
    time.sleep(0.02)
    assert len(begun) < 60


def test_each_thing_is_made_once() -> None:
    made: list[str] = []

    def make() -> str:
        made.append("x")
        time.sleep(0.01)
        return "result"

    once = Once(2)
    assert Lanes(8).map(lambda _: once.get("key", make), range(8)) == ["result"] * 8
    assert len(made) == 1
    with pytest.raises(ValueError, match="no"):
        once.get("bad", lambda: int("no"))
    assert once.get("bad", lambda: 3) == 3
