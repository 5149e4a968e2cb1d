"""Hugging Face `datasets` over our archives: the same values, and never somebody else's."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import pytest
import torch

import lamofcbench
from lamofcbench.archive import BUNDLED
from lamofcbench.card.write import write_archive_card
from lamofcbench.errors import ArchiveNotFoundError, SelectionError
from tests import stores
from tests.hub import LocalHub
from tests.verbs import invoke

ROOT = Path(__file__).parents[2]
SPLITS = ("calibration", "test", "train")


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An empty working folder and an empty cache."""
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    datasets.disable_progress_bars()
    yield
    datasets.enable_progress_bars()


def toy(archive: Path, seed: int = 0) -> Path:
    stores.write(archive, stores.small(), seed=seed)
    return archive


def load(archive: Path, split: str = "test", **options: Any) -> Any:
    found = datasets.load_dataset(
        "lamofcbench", stores.CONFIG, split=split, data_dir=str(archive), **options
    )
    return found.with_format("torch")


def check_equal(rows: Any, archive: Path, split: str) -> None:
    ours = lamofcbench.load_dataset(archive, stores.CONFIG, split=split)
    rows = list(rows)
    assert [row["id"] for row in rows] == [item["id"] for item in ours]
    for row, item in zip(rows, ours, strict=True):
        for name, value in (*item["features"].items(), ("mask", item["reference"]["mask"])):
            axes = ours.axes(name) if name in ours.keys else ("pixel",)
            ragged = axes.index("token") if "token" in axes else 0
            expected = value.movedim(ragged, 0)
            found = row[name] if name in row else row[f"reference/{name}"]
            if expected.is_floating_point():
                assert found.dtype == torch.float32
            assert torch.equal(found, expected.to(found.dtype)), name
        assert row["reference/label"] == item["reference"]["label"]
        assert row["reference/answers"] == item["reference"]["answers"]
        assert torch.equal(row["context/token_ids"], item["context"]["token_ids"])


@pytest.mark.parametrize("split", SPLITS)
def test_values_are_the_archive_s(tmp_path: Path, split: str) -> None:
    archive = toy(tmp_path / "archive")
    check_equal(load(archive, split), archive, split)
    check_equal(load(archive, split, streaming=True), archive, split)


def test_a_rewritten_archive_and_another_one_give_their_own_rows(tmp_path: Path) -> None:
    first, second = toy(tmp_path / "a" / "archive"), toy(tmp_path / "b" / "archive", seed=1)
    for archive in (first, second, first):
        check_equal(load(archive), archive, "test")
    (first / stores.CONFIG).rename(tmp_path / "gone")
    toy(first, seed=2)
    check_equal(load(first), first, "test")


def test_tensors_and_names(tmp_path: Path) -> None:
    archive = toy(tmp_path / "archive")
    columns = load(archive, tensors=["views"]).column_names
    assert "views" in columns
    assert "layer.0.k_cache" not in columns
    whole = load(archive).column_names
    assert "layer.0.k_cache" in whole
    names = datasets.get_dataset_config_names("lamofcbench", data_dir=str(archive))
    assert {stores.CONFIG, "vqa-mllm"} <= set(names)
    with pytest.raises(ValueError, match="arc-llm"):
        datasets.load_dataset("lamofcbench", "arc-lm", data_dir=str(archive))
    with pytest.raises(ArchiveNotFoundError, match="make extract SCENARIO=arc-llm"):
        datasets.load_dataset("lamofcbench", "arc-llm", data_dir=str(archive))
    with pytest.raises(SelectionError, match="data_dir"):
        datasets.load_dataset("lamofcbench", stores.CONFIG, data_files="x.csv")


def run(code: str, cwd: Path, tmp_path: Path, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        cwd=cwd,
        env={
            **{name: os.environ[name] for name in os.environ if name != "LAMOFCBENCH_ARCHIVE"},
            "HF_HOME": str(tmp_path / "hf"),
            "XDG_CACHE_HOME": str(tmp_path / "xdg"),
            "HF_HUB_OFFLINE": "1",
            **environment,
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("order", ["lamofcbench, datasets", "datasets, lamofcbench"])
def test_the_literal_call_in_either_order_of_imports(order: str, tmp_path: Path) -> None:
    code = (
        f"import {order}\n"
        "d = datasets.load_dataset('lamofcbench', 'vqa-mllm', split='test')\n"
        "s = datasets.load_dataset('lamofcbench', 'vqa-mllm', split='test', streaming=True)\n"
        "for row in (d.with_format('torch')[0], next(iter(s.with_format('torch')))):\n"
        "    print(tuple(row['layer.4.output'].shape), row['layer.4.output'].dtype)\n"
    )
    first, second = run(code, Path.cwd(), tmp_path, PYTHONPATH=str(ROOT)).splitlines()
    assert first == second
    assert first.endswith("64) torch.float32")


def test_the_package_s_own_folder_answers_with_the_sample_table(tmp_path: Path) -> None:
    code = (
        "import datasets\n"
        "d = datasets.load_dataset('lamofcbench', 'vqa-mllm', split='test')\n"
        "print(len(d), d[0]['id'], 'token_ids' in d.column_names)\n"
    )
    assert run(code, ROOT, tmp_path) == "3 digits-test-00000 True"


def test_datasets_of_another_make_is_said_to_be_so() -> None:
    code = (
        "import datasets.packaged_modules as p, sys\n"
        "import types\n"
        "from lamofcbench.interop import hf_hook\n"
        "hf_hook._enter(types.ModuleType('datasets.load'))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0
    assert "Install datasets 5.2, or use lamofcbench.load_dataset" in done.stderr


def test_an_archive_with_its_card_gives_the_sample_tables(tmp_path: Path) -> None:
    for seed in (0, 1):
        archive = toy(tmp_path / str(seed) / "archive", seed)
        write_archive_card(archive)
        # In one place, one after the other: the cache must not take the one for the other.
        (tmp_path / "archive").unlink(missing_ok=True)
        (tmp_path / "archive").symlink_to(archive)
        for split in SPLITS:
            rows = datasets.load_dataset(str(tmp_path / "archive"), stores.CONFIG, split=split)
            ours = lamofcbench.load_dataset(archive, stores.CONFIG, split=split)
            lengths = {item["id"]: item["lengths"]["token"] for item in ours}
            found = {row["id"]: row["length_token"] for row in rows if row["status"] == "ok"}
            assert found == lengths


def test_a_published_repository_gives_the_sample_tables(hub: LocalHub, tmp_path: Path) -> None:
    archive = tmp_path / "archive"
    shutil.copytree(BUNDLED / "vqa-mllm", archive / "vqa-mllm")
    write_archive_card(archive, "org/lamofcbench")
    pushed = invoke("push", "all", "--repo", "org/lamofcbench", "--archive", archive)
    assert pushed.returncode == 0, pushed.stderr
    code = (
        "import datasets\n"
        "d = datasets.load_dataset('org/lamofcbench', 'vqa-mllm', split='test')\n"
        "print(len(d), d[0]['id'])\n"
    )
    assert run(code, tmp_path, tmp_path, HF_HUB_OFFLINE="0") == "3 digits-test-00000"
