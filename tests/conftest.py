import concurrent.futures
import fcntl
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from lamofcbench.spec import list_configs
from tests import stores


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
