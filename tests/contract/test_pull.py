"""Fetching from the Hub: whole stores and parts, over real HTTP, with all that goes wrong."""

import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from lamofcbench import load_dataset
from lamofcbench.atomic import compact_json, sha256_bytes
from lamofcbench.errors import (
    IncompleteArchiveWarning,
    IntegrityError,
    LamofcError,
    NotPulledError,
    RequestMismatchError,
    SelectionError,
    UnknownNameError,
)
from lamofcbench.store.lock import RangeLock
from lamofcbench.store.reader import StoreReader
from lamofcbench.store.verify import verify_store
from lamofcbench.store.writer import StoreWriter
from tests import stores
from tests.conftest import TOKEN
from tests.hub import Fault, LocalHub
from tests.publishing import REPO, cli, files, one_line, push, same_tree, succeed

STORE = f"{stores.CONFIG}/tiny"


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    archive = tmp_path_factory.mktemp("small")
    stores.write(archive, stores.small())
    return archive


@pytest.fixture
def published(hub: LocalHub, small: Path) -> LocalHub:
    """The Hub with the small store in ``REPO``, as if it had been pushed."""
    hub.create(REPO)
    hub.tag(REPO, "v1", hub.put(REPO, dict(files(small))))
    return hub


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "pulled"


def pull(target: Path, *options: object) -> str:
    words = ("pull", stores.CONFIG, "--repo", REPO, "--archive", target)
    return succeed(*words, *options)


def refused(target: Path, *options: object, code: int = 2) -> str:
    words = ("pull", stores.CONFIG, "--repo", REPO, "--archive", target)
    return one_line(cli(*words, *options), code)


def shards_asked_for(hub: LocalHub) -> set[str]:
    """Shard files of features that were asked for."""
    paths = {request.path.split(f"{STORE}/features.zarr/")[-1] for request in hub.seen("GET")}
    return {path for path in paths if path.split("/")[0] in stores.SMALL and "/c/" in path}


def test_bytes_and_files_are_said_first(published: LocalHub, small: Path, target: Path) -> None:
    report = json.loads(pull(target, "--dry-run", "--json"))
    assert not target.exists()
    held = files(small)
    # The manifest and its hash have been read by then.
    assert report["files"] == len(held) - 2
    small_ones = sum(len(d) for name, d in held.items() if "manifest.json" in name)
    assert report["bytes"] == sum(map(len, held.values())) - small_ones
    published.reset()
    pull(target)
    assert same_tree(small, target)
    assert published.sent < report["bytes"] + 2 * small_ones
    assert not published.seen("GET", "/tree/")
    assert not published.seen("GET", "/api/")


def test_a_part_is_exactly_what_was_asked_for(published: LocalHub, target: Path) -> None:
    pull(target, "--samples", "0:3", "--tensors", "views,layer.2.output")
    assert shards_asked_for(published) == {"views/c/0/0/0", "layer.2.output/c/0/0/0"}
    report = verify_store(target / STORE)
    assert not report.findings
    assert "layer.0.k_cache" in report.absent
    assert "shards 1-2 of 3" in report.absent
    assert "an intact part" in succeed("verify", target)
    assert "not here" in succeed("info", stores.CONFIG, "--archive", target)
    assert "partial" in succeed("list", "--archive", target)
    with pytest.warns(IncompleteArchiveWarning, match="layer.0.k_cache"):
        ds = load_dataset(target, stores.CONFIG)
    # 16 samples in a shard, 4 of calibration before, one skipped.
    assert len(ds) == 11
    assert set(ds[0]["features"]) == {"views", "layer.2.output"}
    assert set(ds[0]["context"]) == {"token_ids"}
    chosen = load_dataset(target, stores.CONFIG, samples="0:3", tensors=["views"])
    assert chosen[0]["id"] == "toy-004"


@pytest.mark.parametrize(
    "options",
    [
        {"samples": "11:13"},
        {"split": "train"},
        {"tensors": ["layer.2.output"]},
        {"samples": [0], "tensors": "*"},
    ],
    ids=str,
)
def test_what_is_absent_is_named_with_the_command_for_it(
    published: LocalHub, target: Path, options: dict[str, Any]
) -> None:
    pull(target, "--samples", "0:3", "--tensors", "views")
    with pytest.raises(NotPulledError) as caught:
        load_dataset(target, stores.CONFIG, **options)
    succeed(*str(caught.value).split("To fetch them: lamofcbench ")[1].split())
    assert len(load_dataset(target, stores.CONFIG, **options)) > 0


def test_a_mistake_is_not_taken_for_something_absent(published: LocalHub, target: Path) -> None:
    pull(target, "--samples", "0:3", "--tensors", "views")
    with pytest.raises(SelectionError):
        load_dataset(target, stores.CONFIG, samples=[99])
    with pytest.raises(UnknownNameError):
        load_dataset(target, stores.CONFIG, tensors=["layer.9"])
    reader = StoreReader(target / STORE)
    with pytest.raises(NotPulledError, match=r"--shards 2 --tensors layer\.2\.output"):
        reader.read("layer.2.output", 35)
    with pytest.raises(NotPulledError, match="--shards 2 "):
        reader.read("context/token_ids", 35)


def test_a_part_grows_into_the_whole(published: LocalHub, small: Path, target: Path) -> None:
    pull(target, "--shards", "2", "--tensors", "views")
    published.reset()
    pull(target, "--shards", "0", "--tensors", "layer.*")
    assert shards_asked_for(published) == {"layer.0.k_cache/c/0/0/0/0", "layer.2.output/c/0/0/0"}
    with pytest.raises(NotPulledError):
        load_dataset(target, stores.CONFIG, samples=[0], tensors="views")
    assert len(load_dataset(target, stores.CONFIG, samples=[0], tensors="layer.*")) == 1
    published.reset()
    pull(target, "--shards", "0", "--tensors", "layer.*")
    assert published.sent < 200
    pull(target)
    assert same_tree(small, target)
    published.reset()
    pull(target)
    assert published.sent < 200


def test_a_split_alone_means_all_of_it(published: LocalHub, target: Path) -> None:
    pull(target, "--split", "train", "--tensors", "views")
    assert shards_asked_for(published) == {"views/c/1/0/0", "views/c/2/0/0"}
    assert len(load_dataset(target, stores.CONFIG, split="train", tensors="views")) == 12


FAULTS = [
    Fault("drop", "/resolve/"),
    Fault("drop", "/cdn/", times=9),
    Fault("429", "/resolve/", retry_after=0.2, times=2),
    Fault("503", "/cdn/", times=4),
    Fault("truncate", "/cdn/", times=5),
    Fault("truncate", "zarr.json", times=2),
    Fault("corrupt", "/cdn/", times=2),
    Fault("truncate", "tiny/manifest.json.sha256"),
    Fault("corrupt", "tiny/manifest.json", after=1),
    Fault("etag", "/resolve/", times=99),
    Fault("slow", "/cdn/", times=99, piece=1000, seconds=0.001),
]


@pytest.mark.parametrize(
    ("fault", "redirect"),
    [*((fault, True) for fault in FAULTS), *((FAULTS[n], False) for n in (1, 4, 6))],
    ids=lambda value: f"{value.kind}-{value.match}" if isinstance(value, Fault) else str(value),
)
def test_pull_survives(
    published: LocalHub, small: Path, target: Path, fault: Fault, redirect: bool
) -> None:
    published.redirect = redirect
    match = fault.match if redirect else str(fault.match).replace("/cdn/", "/c/")
    here = Fault(fault.kind, match, None, fault.after, fault.times, fault.retry_after)
    here.piece, here.seconds = fault.piece, fault.seconds
    published.faults = [here]
    pull(target)
    assert here.hits > here.after
    assert same_tree(small, target)
    assert not verify_store(target / STORE).findings


@pytest.mark.parametrize(
    ("fault", "code", "said"),
    [
        (Fault("503", "/cdn/", times=999), 2, "answers 503"),
        (Fault("drop", "layer.2.output/zarr.json", times=999), 2, "Run the same command again"),
        (Fault("corrupt", "samples-test", times=999), 1, "its sha256 is not the manifest's"),
        (Fault("corrupt", "tiny/manifest.json", after=1, times=999), 1, "sha256"),
    ],
    ids=["503", "drop", "corrupt", "manifest"],
)
def test_a_pull_that_fails_says_so_in_one_line_and_goes_on(
    published: LocalHub, small: Path, target: Path, fault: Fault, code: int, said: str
) -> None:
    published.faults = [Fault(fault.kind, fault.match, None, fault.after, fault.times)]
    assert said in refused(target, code=code)
    with pytest.raises(LamofcError):
        load_dataset(target, stores.CONFIG)
    published.reset()
    pull(target)
    assert same_tree(small, target)


def test_a_killed_pull_goes_on_with_what_it_has(
    published: LocalHub, small: Path, target: Path
) -> None:
    words = ["pull", stores.CONFIG, "--repo", REPO, "--archive", str(target)]
    shard = "layer.2.output/c/1"
    published.faults = [Fault("slow", lambda r: shard in r.path and "/cdn/" in r.path, times=99)]
    published.faults[0].piece, published.faults[0].seconds = 1000, 0.5
    process = subprocess.Popen(
        [sys.executable, "-m", "lamofcbench", *words],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 60
    while not any(shard in r.path and r.sent > 1000 for r in published.requests):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    time.sleep(0.2)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not (target / STORE / "manifest.json").exists()
    with pytest.raises(
        IntegrityError, match=r"its download is not finished\. To go on: lamofcbench"
    ):
        load_dataset(target, stores.CONFIG)
    assert "not finished" in cli("verify", target).out
    placed = {name.removeprefix(f"{STORE}/") for name in files(target) if ".pull" not in name}
    assert placed
    published.reset()
    pull(target)
    assert same_tree(small, target)
    again = {request.path.split(f"{STORE}/")[-1] for request in published.seen("GET")}
    assert not placed & again


def test_what_was_pulled_is_not_fetched_twice_after_a_cut(
    published: LocalHub, small: Path, target: Path
) -> None:
    published.faults = [Fault("drop", "/cdn/", times=2)]
    pull(target)
    ranges = [r.range for r in published.requests if r.range is not None]
    assert len(ranges) >= 2
    assert all(text.startswith("bytes=") and text != "bytes=0-" for text in ranges)
    assert same_tree(small, target)


def test_a_part_stays_whole_while_it_grows(published: LocalHub, small: Path, target: Path) -> None:
    pull(target, "--shards", "0")
    published.faults = [Fault("503", "views/c/2/", times=999)]
    refused(target)
    # What has arrived of the rest is there, and nobody relies on it.
    report = verify_store(target / STORE)
    assert not report.findings
    assert "shards 1-2 of 3" in report.absent
    assert len(load_dataset(target, stores.CONFIG, samples="0:9")) > 0
    published.reset()
    pull(target)
    assert same_tree(small, target)


def test_two_pulls_into_one_store_take_turns(published: LocalHub, target: Path) -> None:
    lock = RangeLock(target / STORE / ".pull/lock", 0, 1)
    assert "another process is pulling into it" in refused(target)
    lock.release()
    pull(target)


def test_shards_without_a_manifest_are_no_store(published: LocalHub, target: Path) -> None:
    published.put(REPO, {f"{STORE}/manifest.json": None})
    assert "is just being published" in refused(target)
    published.put(REPO, {f"{STORE}/manifest.json.sha256": None})
    assert "is just being published" in refused(target)
    assert not target.exists()
    # What the tag names is as whole as before.
    pull(target, "--revision", "v1")


def test_a_manifest_without_a_shard_is_refused(published: LocalHub, target: Path) -> None:
    published.put(REPO, {f"{STORE}/features.zarr/views/c/1/0/0": None})
    assert "was not published as a whole" in refused(target, code=1)
    with pytest.raises(IntegrityError):
        load_dataset(target, stores.CONFIG)


def test_another_shard_than_the_manifest_names_is_refused(
    published: LocalHub, target: Path
) -> None:
    name = f"{STORE}/features.zarr/views/c/{{}}/0/0"
    published.put(REPO, {name.format(1): published.read(REPO, name.format(0))})
    assert "its sha256 is not the manifest's" in refused(target, code=1)


@pytest.mark.parametrize("path", ["../../escaped", "/tmp/escaped", "features.zarr/../../x", "a/b"])
def test_a_manifest_cannot_name_files_outside_its_store(
    published: LocalHub, target: Path, path: str
) -> None:
    manifest = json.loads(published.read(REPO, f"{STORE}/manifest.json"))
    manifest["files"][path] = {"bytes": 3, "sha256": sha256_bytes(b"bad")}
    data = compact_json(manifest)
    line = f"{sha256_bytes(data)}  manifest.json\n".encode()
    published.put(REPO, {f"{STORE}/manifest.json": data, f"{STORE}/manifest.json.sha256": line})
    assert "which is no file of a store" in refused(target, code=1)
    assert not target.exists()


def test_downloads_are_checked_against_the_lock_file(
    hub: LocalHub, small: Path, tmp_path: Path, target: Path
) -> None:
    push(small, "--lock", "manifests")
    (tag,) = hub.refs(REPO)["tags"]
    report = json.loads(pull(tmp_path / "locked", "--json"))
    assert report["revision"] == tag
    lock = Path("manifests") / stores.CONFIG / "tiny.json"
    body = json.loads(lock.read_text())
    lock.write_text(json.dumps({**body, "manifest_sha256": "0" * 64}))
    assert "is not what was published" in refused(target, code=1)
    assert not target.exists()
    # Another repository's lock file says nothing about this one.
    lock.write_text(json.dumps({**body, "repo": "org/other", "manifest_sha256": "0" * 64}))
    pull(target)


def test_another_store_of_that_name_is_left_alone(
    published: LocalHub, target: Path, tmp_path: Path
) -> None:
    other = stores.write(target, stores.small().model_copy(update={"split_point": "elsewhere"}))
    before = files(target)
    assert "holds another store" in refused(target)
    (other / "manifest.json").unlink()
    assert "not a download" in refused(target)
    del before[f"{STORE}/manifest.json"]
    assert files(target) == before


def test_writers_refuse_a_part(published: LocalHub, target: Path) -> None:
    pull(target, "--shards", "1")
    before = files(target)
    with pytest.raises(RequestMismatchError, match="a part of a downloaded store"):
        StoreWriter(target / STORE, stores.draft(stores.small()))
    assert files(target) == before


def test_damage_in_a_part_is_found(published: LocalHub, target: Path) -> None:
    pull(target, "--shards", "1", "--tensors", "views")
    shard = target / STORE / "features.zarr/views/c/1/0/0"
    data = shard.read_bytes()
    shard.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    assert "views/c/1/0/0" in cli("verify", target).out
    shard.unlink()
    assert cli("verify", target).code == 1
    with pytest.raises(IntegrityError, match=f"lamofcbench pull {stores.CONFIG}"):
        load_dataset(target, stores.CONFIG, samples="13:15", tensors="views")
    pull(target, "--shards", "1", "--tensors", "views")
    assert cli("verify", target).code == 0
    note = target / STORE / "pulled.json"
    for bad in (b"{", b"[]", note.read_bytes().replace(b'"views"', b'"nothing"')):
        note.write_bytes(bad)
        with pytest.raises(IntegrityError, match=r"pulled\.json"):
            load_dataset(target, stores.CONFIG)
        assert cli("verify", target).code == 1


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--samples", "0:3", "--shards", "1"], "not by both"),
        (["--samples", "x"], "expected first:last"),
        (["--samples", "99"], "holds 20"),
        (["--shards", "9"], "has shards 0 to 2"),
        (["--shards", "a"], "expected numbers"),
        (["--tensors", "view"], "Did you mean 'views'"),
        (["--split", "tests"], "Did you mean 'test'"),
        (["--revision", "v9"], "no such revision"),
        (["--profile", "full"], "has no toy-llm (full)"),
    ],
)
def test_a_mistake_is_one_line(
    published: LocalHub, target: Path, options: list[str], said: str
) -> None:
    assert said in refused(target, *options)
    assert not target.exists()


def test_a_place_that_cannot_be_written_is_one_line(published: LocalHub, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert "Choose another --archive" in refused(tmp_path / "file")


def test_without_a_network_it_says_so(
    published: LocalHub, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    said = refused(target)
    assert "http://127.0.0.1:9 cannot be reached" in said
    assert not target.exists()


def test_load_dataset_fetches_what_the_selection_lacks(
    published: LocalHub, small: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "lamofcbench"):
        ds = load_dataset(REPO, stores.CONFIG, samples=range(2), tensors=["views"])
    assert "MB" in caplog.text
    assert shards_asked_for(published) == {"views/c/0/0/0"}
    local = load_dataset(small, stores.CONFIG, samples=range(2), tensors=["views"])
    assert [s["id"] for s in ds] == [s["id"] for s in local]
    published.reset()
    caplog.clear()
    load_dataset(REPO, stores.CONFIG, samples=range(2), tensors=["views"])
    assert not published.requests
    assert not caplog.text
    # Nothing is selected: what is there is served, and what is not is said.
    with pytest.warns(IncompleteArchiveWarning):
        assert len(load_dataset(REPO, stores.CONFIG)) == 11
    assert not published.requests
    assert len(load_dataset(REPO, stores.CONFIG, tensors=["layer.2.output"])) == 19
    assert shards_asked_for(published) == {f"layer.2.output/c/{k}/0/0" for k in (0, 1)}


def test_the_configured_repository_is_the_default_archive(
    published: LocalHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAMOFCBENCH_REPO", REPO)
    assert len(load_dataset("lamofcbench", stores.CONFIG, samples="0:1", tensors="views")) == 1
    succeed("pull", stores.CONFIG, "--samples", "0:1")
    assert "an intact part" in succeed("verify")
    shutil.rmtree(os.environ["XDG_CACHE_HOME"])
    assert "lamofcbench pull" in one_line(cli("verify"))


def test_a_newer_publication_does_not_disturb_a_part(
    published: LocalHub, small: Path, target: Path, tmp_path: Path
) -> None:
    pull(target, "--shards", "0")
    stores.write(tmp_path / "new", stores.small().model_copy(update={"split_point": "elsewhere"}))
    published.put(REPO, dict(files(tmp_path / "new")))
    pull(target)
    assert same_tree(small, target)


def test_the_token_is_nowhere(
    hub: LocalHub,
    small: Path,
    target: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    said = []
    for kind in ("503", "drop", "429"):
        hub.faults = [Fault(kind, "/api/", after=2, times=99)]
        said.append(cli("push", "all", "--repo", REPO, "--archive", small))
    hub.reset()
    said.append(cli("push", "all", "--repo", REPO, "--archive", small, "--lock", "manifests"))
    for kind in ("corrupt", "503", "drop", "truncate"):
        hub.faults = [Fault(kind, "samples-", times=99)]
        words = ("pull", stores.CONFIG, "--repo", REPO, "--archive", target)
        said.append(cli(*words, "--shards", "0"))
    hub.reset()
    said.append(cli(*words, "--shards", "0"))
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    said.append(cli(*words, "--shards", "1"))
    assert {done.code for done in said} == {0, 1, 2}
    assert TOKEN not in "".join(done.out + done.err for done in said)
    assert TOKEN not in caplog.text
    for path, data in files(tmp_path).items():
        assert TOKEN.encode() not in data, path
    # It does arrive where it belongs, and not where the Hub sends clients on to.
    assert hub.requests
    assert all(r.authorised == ("/cdn/" not in r.path) for r in hub.requests)
