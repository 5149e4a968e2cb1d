"""Publishing to the Hub: the real client, real HTTP, a local server."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lamofcbench.archive import BUNDLED, list_stores
from lamofcbench.errors import HubError
from lamofcbench.hub import plan as plans
from lamofcbench.store.verify import Report
from tests import stores
from tests.hub import Fault, LocalHub, Request
from tests.publishing import REPO, cli, files, one_line, push, same_tree, succeed

PULL = ("pull", stores.CONFIG, "--repo", REPO, "--archive")


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    archive = tmp_path_factory.mktemp("small")
    stores.write(archive, stores.small())
    return archive


@pytest.fixture
def copied(small: Path, tmp_path: Path) -> Path:
    return shutil.copytree(small, tmp_path / "copied")


def uploads(hub: LocalHub) -> list[Request]:
    return [*hub.seen("PUT"), *hub.seen("POST", "/commit/")]


def test_data_first_manifest_last_then_a_tag(hub: LocalHub, small: Path, tmp_path: Path) -> None:
    planned = json.loads(
        succeed("push", "all", "--repo", REPO, "--archive", small, "--dry-run", "--json")
    )
    assert not hub.exists(REPO)
    published = files(small)
    assert planned["missing_files"] == planned["files"] == len(published)
    assert planned["missing_bytes"] == planned["bytes"] == sum(map(len, published.values()))
    push(small, "--lock", tmp_path / "manifests")
    assert hub.commits(REPO)[1:] == ["Publish shards", "Publish tables", "Publish manifests"]
    (tag,) = hub.refs(REPO)["tags"]
    assert tag == planned["tag"]
    assert hub.files(REPO, tag).keys() == published.keys()
    assert all(hub.read(REPO, path, tag) == data for path, data in published.items())
    lock = json.loads((tmp_path / "manifests" / stores.CONFIG / "tiny.json").read_text())
    stated = (small / stores.CONFIG / "tiny/manifest.json.sha256").read_text()[:64]
    assert (lock["repo"], lock["revision"], lock["manifest_sha256"]) == (REPO, tag, stated)


def test_pushing_again_sends_nothing_and_a_card_alone(hub: LocalHub, copied: Path) -> None:
    push(copied)
    hub.reset()
    assert "0 files, 0 B" in push(copied)
    assert not uploads(hub)
    (copied / "README.md").write_text("---\nlicense: mit\n---\n# Features\n")
    refs = hub.refs(REPO)["tags"]
    push(copied)
    assert not hub.seen("PUT")
    assert hub.read(REPO, "README.md").endswith(b"# Features\n")
    assert hub.refs(REPO)["tags"] == refs


def test_a_private_repository_needs_the_token(
    hub: LocalHub, small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    push(small, "--private")
    assert hub.is_private(REPO)
    monkeypatch.setenv("HF_TOKEN", "hf_another")
    assert "hf auth login" in one_line(cli(*PULL, tmp_path / "pulled"))
    assert "hf auth login" in one_line(cli("push", "all", "--repo", "org/new", "--archive", small))


@pytest.mark.parametrize(
    "fault",
    [
        Fault("drop", "/upload/"),
        Fault("503", "/upload/"),
        Fault("429", "/preupload/"),
        Fault("drop", "/commit/", after=1),
        Fault("503", "/commit/", times=2),
        Fault("429", "/paths-info/", retry_after=0.1, times=2),
        Fault("503", "/tag/"),
        Fault("429", "/repos/create", retry_after=0.01),
        Fault("drop", "objects/batch"),
        Fault("slow", "/upload/", times=100, seconds=0.002),
    ],
    ids=lambda fault: f"{fault.kind}-{str(fault.match).strip('/')}",
)
def test_push_survives(hub: LocalHub, small: Path, tmp_path: Path, fault: Fault) -> None:
    hub.faults = [fault]
    push(small)
    assert fault.hits > fault.after
    assert len(hub.refs(REPO)["tags"]) == 1
    succeed(*PULL, tmp_path / "pulled")
    assert same_tree(small, tmp_path / "pulled")


def test_a_push_that_fails_says_so_and_goes_on(hub: LocalHub, small: Path) -> None:
    # The fourth commit is the manifests'.
    hub.faults = [Fault("503", "/commit/", after=2, times=99)]
    said = one_line(cli("push", "all", "--repo", REPO, "--archive", small))
    assert "answers 503" in said
    assert "again" in said
    assert not hub.refs(REPO)["tags"]
    hub.reset()
    push(small)
    assert not hub.seen("PUT")
    assert len(hub.refs(REPO)["tags"]) == 1


def test_a_killed_push_goes_on(hub: LocalHub, small: Path, tmp_path: Path) -> None:
    words = ["push", "all", "--repo", REPO, "--archive", str(small)]
    hub.faults = [Fault("slow", "/upload/", after=4, times=99, seconds=20)]
    process = subprocess.Popen(
        [sys.executable, "-m", "lamofcbench", *words],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 60
    while len(hub.seen("PUT")) < 5:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    there = {path.name for path in (hub.folder / "blobs").iterdir() if len(path.name) == 64}
    assert there
    assert "is just being published" in one_line(cli(*PULL, tmp_path / "early"))
    hub.reset()
    push(small)
    # What had arrived is not sent again.
    assert not there & {Path(request.path).name for request in hub.seen("PUT")}
    succeed(*PULL, tmp_path / "pulled")
    assert same_tree(small, tmp_path / "pulled")


def test_a_store_that_is_replaced_is_never_there_by_halves(
    hub: LocalHub, small: Path, tmp_path: Path
) -> None:
    fewer = stores.small().model_copy(
        update={"samples": stores.small().samples.model_copy(update={"train": 0})}
    )
    other = tmp_path / "other"
    stores.write(other, fewer)
    push(small)
    (old,) = hub.refs(REPO)["tags"]
    hub.faults = [Fault("503", "/commit/", after=1, times=99)]
    one_line(cli("push", "all", "--repo", REPO, "--archive", other))
    hub.reset()
    assert "is just being published" in one_line(cli(*PULL, tmp_path / "early"))
    succeed(*PULL, tmp_path / "old", "--revision", old)
    assert same_tree(small, tmp_path / "old")
    push(other)
    succeed(*PULL, tmp_path / "new")
    assert same_tree(other, tmp_path / "new")
    # The tag of the first has not moved.
    assert hub.files(REPO, old).keys() == files(small).keys()
    # And back again: the tag is there, but main needs the data.
    push(small)
    succeed(*PULL, tmp_path / "back")
    assert same_tree(small, tmp_path / "back")


def test_files_that_a_store_has_no_more_are_taken_out(
    hub: LocalHub, small: Path, tmp_path: Path
) -> None:
    push(small)
    fewer = stores.small().model_copy(
        update={"samples": stores.small().samples.model_copy(update={"train": 0})}
    )
    other = tmp_path / "other"
    stores.write(other, fewer)
    push(other)
    assert hub.files(REPO).keys() == files(other).keys()


def test_a_tag_never_moves(hub: LocalHub, small: Path, tmp_path: Path) -> None:
    push(small, "--tag", "v1")
    other = tmp_path / "other"
    stores.write(other, stores.small(), config="toy-ssm")
    said = one_line(
        cli("push", "all", "--repo", REPO, "--archive", other, "--tag", "v1"),
    )
    assert "tags never move" in said
    assert push(small, "--tag", "v1")


def test_a_revision_that_lacks_something_is_not_tagged(
    hub: LocalHub, copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shard = f"{stores.CONFIG}/tiny/features.zarr/views/c/0/0/0"

    def alter(*_: object, **__: object) -> object:
        # Between the check of the store and the upload.
        data = (copied / shard).read_bytes()
        (copied / shard).write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
        return Report(copied, [], 0, 0)

    monkeypatch.setattr("lamofcbench.store.verify.verify_store", alter)
    said = one_line(cli("push", "all", "--repo", REPO, "--archive", copied))
    assert f"{shard} changed while it was being published" in said
    assert not hub.refs(REPO)["tags"]


def test_only_finished_intact_whole_stores_are_published(
    hub: LocalHub, copied: Path, tmp_path: Path
) -> None:
    words = ("push", stores.CONFIG, "--repo", REPO, "--archive")
    push(copied)
    succeed(*PULL, tmp_path / "part", "--shards", "0")
    assert "only whole ones" in one_line(cli(*words, tmp_path / "part"))
    shard = copied / stores.CONFIG / "tiny/features.zarr/views/c/0/0/0"
    shard.write_bytes(shard.read_bytes()[:-1] + b"x")
    hub.reset()
    assert "views" in one_line(cli(*words, copied), code=1)
    assert not uploads(hub)
    assert "Name one as org/name" in one_line(
        cli("push", "all", "--repo", "nope", "--archive", copied)
    )
    (copied / stores.CONFIG / "tiny/manifest.json").unlink()
    assert "only whole stores" in one_line(cli(*words, copied))


@pytest.mark.parametrize("limit", ["MOST_FILES", "MOST_ENTRIES", "MOST_BYTES"])
def test_what_the_hub_would_refuse_is_refused_first(
    small: Path, monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    local = [plans.open_local(small / stores.CONFIG / "tiny")]
    plans.plan_push(small, local)
    monkeypatch.setattr(plans, limit, 5)
    with pytest.raises(HubError, match="the Hub takes 5"):
        plans.plan_push(small, local)


def test_every_miniature_there_and_back(tmp_path: Path, hub: LocalHub) -> None:
    hub.verify = hub.redirect = False
    push(BUNDLED)
    hub.reset()
    push(BUNDLED)
    assert not uploads(hub)
    for config in list_stores(BUNDLED):
        succeed("pull", config, "--repo", REPO, "--archive", tmp_path / "pulled")
    assert same_tree(BUNDLED, tmp_path / "pulled")
