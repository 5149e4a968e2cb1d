import concurrent.futures
import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lamofcbench.spec import list_configs
from tests import stores
from tests.hub import LocalHub


@pytest.fixture(scope="session")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An archive with one finished synthetic store. Read it, never change it."""
    archive = tmp_path_factory.mktemp("pristine")
    stores.write(archive)
    return archive


@pytest.fixture(scope="session")
def real_archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``./archive`` of some folder, with every config extracted: once for all test processes."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    archive = shared / "real" / "archive"
    archive.parent.mkdir(exist_ok=True)
    with (shared / "real.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not archive.is_dir():
            unfinished = archive.with_name("unfinished")
            extract_all(unfinished)
            unfinished.rename(archive)
    return archive


def extract_all(archive: Path) -> None:
    """Extract every config, two at a time."""

    def extract(config: str) -> None:
        subprocess.run(
            [sys.executable, "-m", "extraction", config, "--archive", archive],
            cwd=Path(__file__).parents[1],
            check=True,
            stdout=subprocess.DEVNULL,
        )

    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        list(pool.map(extract, list_configs()))


@pytest.fixture
def archive(pristine: Path, tmp_path: Path) -> Path:
    """A copy of the pristine archive, to be damaged at will."""
    copy = tmp_path / "archive"
    shutil.copytree(pristine, copy)
    return copy


@pytest.fixture
def store(archive: Path) -> Path:
    return archive / stores.CONFIG / "tiny"


TOKEN = "hf_ThisIsTheTokenOfTheTests"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalHub]:
    """An empty local Hub that this process and its children take for the real one.

    The working folder and the user cache are empty ones below ``tmp_path``; waiting is short.
    """
    from huggingface_hub import constants

    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1]))
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setenv("HF_HUB_DISABLE_XET", "1")
    monkeypatch.setenv("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name in ("LAMOFCBENCH_ARCHIVE", "LAMOFCBENCH_REPO"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr("lamofcbench.hub.client.FIRST_WAIT", 0.01)
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    with LocalHub(tmp_path / "hub", token=TOKEN) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        yield server
