import concurrent.futures
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
    """``./archive`` of some folder, with every config extracted, two at a time."""
    archive = tmp_path_factory.mktemp("real") / "archive"

    def extract(config: str) -> None:
        subprocess.run(
            [sys.executable, "-m", "extraction", config, "--archive", archive],
            cwd=Path(__file__).parents[1],
            check=True,
            stdout=subprocess.DEVNULL,
        )

    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        list(pool.map(extract, list_configs()))
    return archive


@pytest.fixture
def archive(pristine: Path, tmp_path: Path) -> Path:
    """A copy of the pristine archive, to be damaged at will."""
    copy = tmp_path / "archive"
    shutil.copytree(pristine, copy)
    return copy


@pytest.fixture
def store(archive: Path) -> Path:
    return archive / stores.CONFIG / "tiny"
