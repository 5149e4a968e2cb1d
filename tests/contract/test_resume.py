"""Runs that are killed, repeated, contradicted or run twice at once."""

import random
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lamofcbench import load_dataset
from lamofcbench.errors import IncompleteArchiveWarning, LockedError, RequestMismatchError
from lamofcbench.store.lock import RangeLock
from lamofcbench.store.verify import verify_store
from lamofcbench.store.work import LOCK, WORK
from lamofcbench.store.writer import StoreWriter
from tests import stores

ROOT = Path(__file__).parents[2]


def start(archive: Path, **options: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.stores", str(archive)],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
        **options,  # type: ignore[call-overload]
    )


def tree(store: Path) -> dict[str, tuple[bytes, int]]:
    return {
        p.relative_to(store).as_posix(): (p.read_bytes(), p.stat().st_mtime_ns)
        for p in sorted(store.rglob("*"))
        if p.is_file()
    }


def contents(store: Path) -> dict[str, bytes]:
    return {path: data for path, (data, _) in tree(store).items()}


def test_thirty_kills_end_in_the_same_bytes(pristine: Path, tmp_path: Path) -> None:
    whole = pristine / stores.CONFIG / "tiny"
    store = tmp_path / stores.CONFIG / "tiny"
    moments = random.Random(0)
    began = time.monotonic()
    first = start(tmp_path / "timing")
    first.communicate()
    assert first.returncode == 0
    span = time.monotonic() - began
    kills = 0
    while kills < 30:
        run = start(tmp_path)
        time.sleep(moments.uniform(0.3, 1.0) * span)
        if run.poll() is None:
            run.send_signal(signal.SIGKILL)
        run.communicate()
        kills += 1
        if (store / "manifest.json").exists() and not (store / WORK).exists():
            assert contents(store) == contents(whole)
            for path in sorted(store.rglob("*"), reverse=True):
                path.unlink() if path.is_file() else path.rmdir()
    last = start(tmp_path)
    last.communicate()
    assert last.returncode == 0
    assert contents(store) == contents(whole)


def test_a_finished_run_writes_nothing_again(archive: Path, store: Path) -> None:
    before = tree(store)
    stores.write(archive)
    assert tree(store) == before


def unfinished(archive: Path, shards: range) -> Path:
    asked = stores.draft(stores.profile())
    with StoreWriter(archive / stores.CONFIG / "tiny", asked, shards) as writer:
        for shard in writer.pending():
            writer.write_shard(shard, (stores.sample(row) for row in asked.shard_rows(shard)))
        assert writer.finalise() is None
    return archive / stores.CONFIG / "tiny"


def test_finished_shards_of_an_unfinished_store_are_served(tmp_path: Path) -> None:
    store = unfinished(tmp_path, range(0, 2))
    with pytest.warns(IncompleteArchiveWarning, match="2 of 3 shards"):
        ds = load_dataset(tmp_path, stores.CONFIG)
    assert [item["index"] for item in ds] == [4, *range(6, 24)]
    with pytest.warns(IncompleteArchiveWarning):
        assert len(load_dataset(tmp_path, stores.CONFIG, split="train")) == 8
    (finding,) = verify_store(store).findings
    assert "2 of 3 shards are there; missing are shards 2" in finding.what


def test_ranges_of_shards_make_one_store(pristine: Path, tmp_path: Path) -> None:
    unfinished(tmp_path, range(2, 3))
    unfinished(tmp_path, range(0, 1))
    store = stores.write(tmp_path)
    assert contents(store) == contents(pristine / stores.CONFIG / "tiny")


def test_the_second_of_two_writers_is_refused(tmp_path: Path) -> None:
    store = tmp_path / stores.CONFIG / "tiny"
    asked = stores.draft(stores.profile())
    with StoreWriter(store, asked, range(0, 2)):
        with pytest.raises(LockedError, match="another process is writing"):
            StoreWriter(store, asked, range(1, 3))
        with StoreWriter(store, asked, range(2, 3)):
            pass
        other = start(tmp_path)
        assert "LockedError" in other.communicate()[1]
        assert other.returncode != 0


def test_finalising_waits_for_other_writers(tmp_path: Path) -> None:
    store = unfinished(tmp_path, range(0, 2))
    asked = stores.draft(stores.profile())
    with StoreWriter(store, asked, range(2, 3)) as writer:
        writer.write_shard(2, (stores.sample(row) for row in asked.shard_rows(2)))
        other = RangeLock(store / WORK / LOCK, 0, 1)
        assert writer.finalise() is None
        other.release()
        assert writer.finalise() is not None


def test_another_request_is_refused_and_nothing_is_lost(archive: Path, store: Path) -> None:
    before = contents(store)
    changed = stores.profile(split_point="elsewhere")
    with pytest.raises(RequestMismatchError, match="was nowhere, now elsewhere"):
        stores.write(archive, changed)
    assert contents(store) == before


def test_another_request_cannot_resume(tmp_path: Path) -> None:
    unfinished(tmp_path, range(0, 1))
    with pytest.raises(RequestMismatchError, match=r"samples\.test was 20, now 25"):
        stores.write(tmp_path, stores.profile(test=25))


def test_a_damaged_record_is_written_again(pristine: Path, tmp_path: Path) -> None:
    store = unfinished(tmp_path, range(0, 2))
    record = store / WORK / "shard-1.json"
    record.write_bytes(record.read_bytes()[:100])
    assert contents(stores.write(tmp_path)) == contents(pristine / stores.CONFIG / "tiny")


def test_a_full_disk_keeps_the_finished_shards(pristine: Path, tmp_path: Path) -> None:
    def small_files_only() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))

    store = unfinished(tmp_path, range(0, 1))
    run = start(tmp_path, preexec_fn=small_files_only)
    assert "File too large" in run.communicate()[1]
    assert run.returncode != 0
    assert not list((store / WORK).glob("tmp-*"))
    with pytest.warns(IncompleteArchiveWarning, match="1 of 3 shards"):
        assert len(load_dataset(tmp_path, stores.CONFIG)) == 11
    assert contents(stores.write(tmp_path)) == contents(pristine / stores.CONFIG / "tiny")


MEMORY = """
import resource, sys
from pathlib import Path
import numpy as np
from lamofcbench.store.writer import Sample, StoreWriter
from tests import stores

spec = stores.profile(
    samples={"calibration": 1, "test": 59},
    keys=[stores.tensor("state", ["channel", "state"], [1000, 1000], "float32")],
    context=[], reference_arrays=[], reference={}, ragged={}, modes={"all": {"keys": ["state"]}},
)
asked = stores.draft(spec, "full")
assert asked.samples_per_shard == 64 and asked.shard_count == 1, asked.keys
peaks = []

def samples():
    for row in range(60):
        state = np.random.default_rng(row).standard_normal((1000, 1000), np.float32)
        yield Sample(str(row), {"state": state}, {}, "", "", "")
        peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)

with StoreWriter(Path(sys.argv[1]), asked) as writer:
    writer.write_shard(0, samples())
print((peaks[-1] - peaks[1]) * 1024)
"""


def test_memory_does_not_grow_with_the_shard(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", MEMORY, tmp_path / "toy" / "full"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    # The shard holds 240 MB; beyond the first two samples of 4 MB no more than two may be added.
    assert int(done.stdout) < 8_000_000
