"""Real extractions: what lies in the archive is what the model makes."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from lamofcbench import load_dataset
from lamofcbench.models import load_family
from lamofcbench.spec import list_configs, load_scenario
from lamofcbench.store.verify import verify_store

ROOT = Path(__file__).parents[2]
JUDGE = ROOT.parent / "shared" / "tools" / "check_store.py"

# Written as a user of transformers would write it, and run where nothing of this project is
# imported but its data; prints one line a tensor.
HOOKS = """
import sys, numpy, torch, transformers
from sklearn.datasets import load_digits
transformers.utils.logging.disable_progress_bar()
model = transformers.DINOv3ViTModel.from_pretrained(sys.argv[1], dtype=torch.float32).eval()
kept = {}
for i in (0, 3):
    model.model.layer[i].register_forward_hook(
        lambda module, args, output, i=i: kept.__setitem__(f"layer.{i}", output[0])
    )
digits = load_digits().images
mean = torch.tensor([0.485, 0.456, 0.406])[:, None, None]
std = torch.tensor([0.229, 0.224, 0.225])[:, None, None]
result = {}
for number in sys.argv[3:]:
    ink = numpy.rint(digits[int(number)] * 255 / 16).astype(numpy.uint8)
    image = torch.tensor(ink).float() / 255
    pixels = torch.nn.functional.interpolate(
        image.expand(1, 3, 8, 8), (32, 32), mode="bilinear", antialias=True
    )
    with torch.no_grad():
        model((pixels - mean) / std)
    result[number] = {key: value.clone() for key, value in kept.items()}
torch.save(result, sys.argv[2])
"""


def test_features_equal_what_hooks_capture_in_another_script(
    real_archive: Path, tmp_path: Path
) -> None:
    ds = load_dataset(real_archive, "in1k-vit", profile="tiny")
    numbers = [item["id"].removeprefix("digits-") for item in ds][:25]
    folder = ROOT / "lamofcbench" / "models" / "tiny" / "vit"
    out = tmp_path / "hooks.pt"
    subprocess.run([sys.executable, "-c", HOOKS, folder, out, *numbers], check=True, cwd=tmp_path)
    captured = torch.load(out, weights_only=True)
    for position, number in enumerate(numbers):
        features = ds[position]["features"]
        assert list(features) == ["layer.0", "layer.3"]
        for key, tensor in features.items():
            assert torch.equal(tensor, captured[number][key])


def inputs_of(config: str, split: str, count: int) -> dict[str, dict[str, object]]:
    from extraction.sources import SOURCES

    profile = load_scenario(config).profile("tiny")
    source = SOURCES.load(profile.source.name)(profile)
    return {sample.id: sample.inputs for sample in source.select(split, count)}


@pytest.mark.parametrize("config", list_configs())
def test_back_halves_answer_from_the_archive_as_the_plain_model_does(
    config: str, real_archive: Path
) -> None:
    scenario = load_scenario(config)
    model = load_family(scenario.family, scenario.profile("tiny"))
    ds = load_dataset(real_archive, config)
    inputs = inputs_of(config, "test", 100)
    assert len(ds) == len(inputs) == 100
    for item in list(ds)[:20]:
        for mode in scenario.profile("tiny").modes:
            plain = model.plain(inputs[item["id"]], mode)
            back = model.back(item["features"], item["context"], mode)
            assert torch.equal(back.logits, plain.logits), (mode, item["id"])


@pytest.mark.parametrize("config", list_configs())
def test_stores_are_intact_and_splits_disjoint(config: str, real_archive: Path) -> None:
    store = real_archive / config / "tiny"
    assert not verify_store(store).findings
    splits = {
        s: load_dataset(real_archive, config, split=s) for s in ("calibration", "test", "train")
    }
    assert {split: len(ds) for split, ds in splits.items()} == {
        "calibration": 32,
        "test": 100,
        "train": 256,
    }
    ids = [item["id"] for ds in splits.values() for item in ds]
    assert len(set(ids)) == len(ids)
    if JUDGE.is_file():
        done = subprocess.run([sys.executable, JUDGE, store], capture_output=True, check=False)
        assert done.returncode == 0, done.stdout


def test_ragged_tokens_differ_between_samples(real_archive: Path) -> None:
    ds = load_dataset(real_archive, "vqa-mllm")
    lengths = [item["lengths"]["token"] for item in ds]
    assert max(lengths) >= 3 * min(lengths)
    for item in ds:
        for key, tensor in item["features"].items():
            assert tensor.dtype == torch.bfloat16
            axis = "image_token" if key.startswith("vision.") else "token"
            assert tensor.shape[-2] == item["lengths"][axis]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["in1k-vt"], "Did you mean 'in1k-vit'"),
        (["in1k-vit", "--profile", "ful"], "Did you mean 'full'"),
        (["in1k-vit", "--samples", "0"], "expected at least 1"),
        (["in1k-vit", "--samples", "1000"], "has 100 images, 1000 were asked for"),
        (["in1k-vit", "--shards", "40:50"], "expected first:last within 0:25"),
        (["in1k-vit", "--source", "."], "leave out the folder"),
        ([""], "unknown config ''"),
    ],
)
def test_a_mistake_is_one_line(arguments: list[str], says: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "extraction", *arguments, "--archive", tmp_path / "archive"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert says in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_all_ends_with_a_table_and_does_nothing_twice(real_archive: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in real_archive.rglob("*")}
    done = subprocess.run(
        ["make", "extract", "SCENARIO=all", f"ARCHIVE={real_archive}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    rows = [line.split() for line in done.stdout.splitlines() if "was there" in line]
    assert [row[0] for row in rows] == list_configs()
    assert len(rows) == 22
    assert all(row[4:6] == ["388", "0"] for row in rows)
    assert {path: path.stat().st_mtime_ns for path in real_archive.rglob("*")} == before


def test_a_finished_store_is_not_asked_for_otherwise(real_archive: Path) -> None:
    command = [sys.executable, "-m", "extraction", "in1k-vit", "--samples", "9"]
    done = subprocess.run(
        [*command, "--archive", real_archive], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "samples.test was 100, now 9" in done.stderr
    assert "rm -r" in done.stderr
