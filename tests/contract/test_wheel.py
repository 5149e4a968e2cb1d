"""The wheel: built, unpacked, and of use with no network, no archive and no repository."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch

from extraction.bundle import PROFILE, README
from lamofcbench import load_dataset
from lamofcbench.archive import BUNDLED
from lamofcbench.card.metadata import card_header, finished_stores
from lamofcbench.spec import list_configs

ROOT = Path(__file__).parents[2]
MOST_BYTES = 5_000_000


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the wheel holds."""
    folder = tmp_path_factory.mktemp("wheel")
    # Of a copy: building leaves its files beside the sources.
    source = folder / "source"
    shutil.copytree(ROOT / "lamofcbench", source / "lamofcbench")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    quiet = ["--quiet", "--disable-pip-version-check", "--no-deps", "--no-build-isolation"]
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", *quiet, "--wheel-dir", folder, source], check=True
    )
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as packed:
        packed.extractall(folder / "site")
    return folder / "site"


def near(value: torch.Tensor, expected: torch.Tensor) -> bool:
    """Equal but for what another processor may round otherwise."""
    same = value.shape == expected.shape
    return same and float((value - expected).norm()) <= 0.02 * float(expected.norm())


def test_two_lines_give_tensors(installed: Path, tmp_path: Path) -> None:
    code = (
        "from lamofcbench import load_dataset\n"
        "sample = load_dataset('lamofcbench', 'vqa-mllm')[0]\n"
        "import lamofcbench; print(lamofcbench.__file__)\n"
        "print(tuple(sample['features']['layer.4.output'].shape))\n"
    )
    environment = {k: v for k, v in os.environ.items() if k != "LAMOFCBENCH_ARCHIVE"}
    environment |= {"PYTHONPATH": str(installed), "XDG_CACHE_HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    file, shape = done.stdout.splitlines()
    assert Path(file).is_relative_to(installed)
    assert shape.endswith(", 64)")
    assert done.stderr.count("MiniatureArchiveWarning") == 1
    assert "make extract SCENARIO=vqa-mllm" in done.stderr


def test_it_holds_the_miniature_archive_and_no_extraction(installed: Path) -> None:
    miniature = installed / "lamofcbench" / "miniature"
    assert sorted(path.name for path in miniature.iterdir()) == sorted(list_configs())
    assert sum(path.stat().st_size for path in miniature.rglob("*.*")) < MOST_BYTES
    assert not (installed / "extraction").exists()
    assert (installed / "lamofcbench" / "README.md").is_file()


@pytest.mark.parametrize("config", list_configs())
def test_bundled_samples_are_those_of_the_archive(config: str, real_archive: Path) -> None:
    """A miniature that is trained again, or extracted otherwise, needs a new bundle."""
    ours = load_dataset(BUNDLED, config)
    whole = load_dataset(real_archive, config, profile=PROFILE, samples=slice(len(ours)))
    assert set(ours.manifest.splits) == {"test"}
    assert [item["id"] for item in ours] == [item["id"] for item in whole]
    for item, expected in zip(ours, whole, strict=True):
        assert item["reference"].keys() == expected["reference"].keys()
        for part in ("features", "context"):
            assert item[part].keys() == expected[part].keys()
            for name, value in item[part].items():
                assert value.dtype == expected[part][name].dtype
                assert near(value.double(), expected[part][name].double()), name


def test_the_package_s_readme_lists_the_bundle() -> None:
    text = (BUNDLED.parent / "README.md").read_text("utf-8")
    assert text == f"{card_header(finished_stores(BUNDLED), 'miniature/')}\n{README}"
