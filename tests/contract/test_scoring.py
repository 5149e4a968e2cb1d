"""Scoring, from the archive alone, through back halves."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file, save_file

from lamofcbench import load_dataset
from lamofcbench.bench.points import Decoded, Quantised, Uncoded, decoded_path
from lamofcbench.bench.scoring import Measured, measured
from lamofcbench.bench.setup import Setup, set_up
from lamofcbench.dataset import FeatureDataset
from lamofcbench.errors import ModelError, SampleError
from lamofcbench.metrics.bands import Bands
from lamofcbench.metrics.statistics import statistics
from lamofcbench.models import bundled_path, load_family
from lamofcbench.spec import list_configs, load_scenario

Features = Mapping[str, torch.Tensor]


@dataclass(frozen=True)
class Made:
    """A point that is a function of the features."""

    make: Callable[[dict[str, torch.Tensor]], Features]
    name: str = "made"

    def __call__(self, sample: str, features: Features) -> Features:
        return self.make(dict(features))


def score(dataset: FeatureDataset, setup: Setup, *points: Any) -> list[Measured]:
    runner = setup.runner(dataset)
    results = [runner.run(point) for point in (Uncoded(), *points)]
    return measured(results, setup.score, setup.fidelity, resamples=20)


def modes() -> list[tuple[str, str]]:
    return [(c, mode) for c in list_configs() for mode in load_scenario(c).profile("tiny").modes]


@pytest.mark.parametrize(("config", "mode"), modes())
def test_lossless_features_lose_nothing(config: str, mode: str, real_archive: Path) -> None:
    dataset = load_dataset(real_archive, config, samples=range(3))
    setup = set_up(dataset, mode)
    copies = Made(lambda features: {key: value.clone() for key, value in features.items()})
    uncoded, lossless = score(dataset, setup, copies)
    names = [figure.name for figure in setup.fidelity.figures if figure.name in lossless.rows]
    for name in names:
        # Agreement is all there is, divergence and error nothing; of images, the ceiling.
        one = {"psnr": 100.0}.get(name, 1.0)
        better = {f.name: f.higher_is_better for f in setup.fidelity.figures}[name]
        assert lossless.figures[name].value == (one if better else 0.0), name
    for name in uncoded.rows:
        assert (uncoded.rows[name] == lossless.rows[name]).all(), name
    assert lossless.loss is not None
    assert lossless.loss.value == 0


@pytest.mark.parametrize("config", list_configs())
def test_statistics_lie_within_their_limits(config: str, real_archive: Path) -> None:
    dataset = load_dataset(real_archive, config, samples=range(20))
    bands = Bands.load(load_scenario(config).family)
    items = list(dataset)
    for key in dataset.keys:
        found = statistics([item["features"][key].float() for item in items], dataset.axes(key))
        assert bands.outside(key, found) == []


@pytest.mark.parametrize("config", ["gsm8k-llm", "gsm8k-ssm", "sdqa-alm", "vqa-mllm"])
def test_later_tokens_read_the_decoded_states(config: str, real_archive: Path) -> None:
    dataset = load_dataset(real_archive, config, samples=range(8))

    def noise(features: dict[str, torch.Tensor]) -> Features:
        random = torch.Generator().manual_seed(0)
        return {
            key: value
            if key.endswith("output")
            else (torch.randn(value.shape, generator=random) * value.float().std()).to(value.dtype)
            for key, value in features.items()
        }

    (_, noisy) = score(dataset, set_up(dataset), Made(noise))
    assert noisy.figures["agree_first"].value == 1
    assert noisy.figures["agree_rest"].value < 0.9
    assert noisy.figures["kl_rest"].value > 0.5


@pytest.mark.parametrize("config", ["arc-llm", "in1k-vit", "canny-t2i", "librispeech-clean-alm"])
def test_coarser_is_worse(config: str, real_archive: Path) -> None:
    dataset = load_dataset(real_archive, config, samples=range(10))
    setup = set_up(dataset)
    axes = {key: dataset.axes(key) for key in setup.keys}
    points = [Quantised(axes, bits, "channel") for bits in (8, 4, 2)]
    results = score(dataset, setup, *points)
    first = setup.fidelity.figures[0].name
    values = [result.figures[first].value for result in results]
    assert values[0] == 1
    assert values[1] > values[3]
    assert values[2] > values[3]


BACK_ALONE = {
    "in1k-vit": ("layer.0", "layer.3"),
    "ade20k-vit": ("multi", "single:1"),
    "arc-llm": ("output",),
    "arc-ssm": ("output",),
    "librispeech-clean-alm": ("handoff", "output"),
    "canny-t2i": ("condition", "latent"),
    "vqa-mllm": ("lm4", "vision"),
}
"""Modes that do without some of the front half's weights."""


def without_front(folder: Path, config: str, mode: str) -> None:
    """Remove from a copy of a miniature what only its front half reads."""
    family = load_scenario(config).family
    if family == "t2i":
        for part in ("text_encoder", "text_encoder_2", "text_encoder_3"):
            (folder / part / "model.safetensors").unlink()
        if mode == "latent":
            shutil.rmtree(folder / "transformer")
        return
    if family == "alm":
        shutil.rmtree(folder / "whisper-large-v3")
        shutil.rmtree(folder / "audio-tokenizer")
    gone = {
        ("alm", "handoff"): ("vq_adaptor",),
        ("alm", "output"): ("vq_adaptor", "layers.0.", "layers.4."),
        ("llm", "output"): ("layers.0.", "layers.4."),
        ("ssm", "output"): ("layers.0.", "layers.4."),
        ("mllm", "lm4"): ("visual.",),
        ("mllm", "vision"): ("visual.",),
        ("vit", "layer.0"): ("embeddings.", "layer.0."),
        ("vit", "layer.3"): ("embeddings.", "layer.0.", "layer.3."),
        ("vit", "multi"): ("embeddings.", "layer."),
        ("vit", "single:1"): ("embeddings.", "layer.0.", "layer.1."),
    }[(family, mode)]
    path = folder / "model.safetensors"
    tensors = load_file(path)
    kept = {name: t for name, t in tensors.items() if not any(part in name for part in gone)}
    assert len(kept) < len(tensors)
    save_file(kept, path, metadata={"format": "pt"})


@pytest.mark.parametrize(("config", "mode"), [(c, m) for c, ms in BACK_ALONE.items() for m in ms])
def test_the_back_half_alone_answers_the_same(
    config: str, mode: str, real_archive: Path, tmp_path: Path
) -> None:
    scenario = load_scenario(config)
    profile = scenario.profile("tiny")
    folder = tmp_path / "model"
    shutil.copytree(bundled_path(profile.model.id.removeprefix("bundled:")), folder)
    without_front(folder, config, mode)
    there = profile.model.model_copy(update={"id": str(folder)})
    alone = load_family(
        scenario.family, profile.model_copy(update={"model": there}), half="back", mode=mode
    )
    whole = load_family(scenario.family, profile)
    assert alone.parameters_loaded < whole.parameters_loaded
    for item in load_dataset(real_archive, config, samples=range(3)):
        one, other = (f.back(item["features"], item["context"], mode) for f in (alone, whole))
        assert torch.equal(torch.as_tensor(one.logits), torch.as_tensor(other.logits))
    with pytest.raises(ModelError, match="only its back half was loaded"):
        alone.plain({})
    with pytest.raises(ModelError, match="only its back half was loaded"):
        alone.front({})
    for other_mode in set(profile.modes) - {mode}:
        with pytest.raises(ModelError, match=f"only the back half of mode {mode} was loaded"):
            alone.back(item["features"], item["context"], other_mode)


@pytest.fixture
def arc(real_archive: Path) -> tuple[FeatureDataset, Setup]:
    dataset = load_dataset(real_archive, "arc-llm", samples=range(2))
    return dataset, set_up(dataset, "output")


KEY = "layer.4.output"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda f: {}, "was not decoded"),
        (lambda f: {KEY: f[KEY][:-1]}, "was decoded as"),
        (lambda f: {KEY: f[KEY].float()}, "float32; stored is"),
        (lambda f: {KEY: f[KEY] * float("nan")}, "not finite"),
        (lambda f: {KEY: f[KEY] * float("inf")}, "not finite"),
    ],
)
def test_features_that_are_not_right_are_refused(
    make: Any, message: str, arc: tuple[FeatureDataset, Setup]
) -> None:
    with pytest.raises(SampleError, match=message) as caught:
        score(*arc, Made(make))
    assert str(caught.value).startswith("toy-arc-test-0000: ")
    assert "\n" not in str(caught.value)


class Without:
    """Samples without their references."""

    def __init__(self, dataset: FeatureDataset) -> None:
        self.dataset = dataset

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return ({**item, "reference": {}} for item in self.dataset)


def test_a_missing_reference_and_no_samples_are_errors(
    arc: tuple[FeatureDataset, Setup], real_archive: Path
) -> None:
    dataset, setup = arc
    with pytest.raises(SampleError, match="toy-arc-test-0000: has no reference 'answer'"):
        score(Without(dataset), setup)  # type: ignore[arg-type]
    with pytest.raises(SampleError, match="no samples to score"):
        score(load_dataset(real_archive, "arc-llm", samples=[]), setup)


def test_features_decoded_elsewhere_are_scored(
    arc: tuple[FeatureDataset, Setup], tmp_path: Path
) -> None:
    dataset, setup = arc
    for item in dataset:
        path = decoded_path(tmp_path, item["id"])
        save_file({KEY: item["features"][KEY]}, path, metadata={"sample": item["id"]})
    _, decoded = score(dataset, setup, Decoded(tmp_path))
    assert decoded.figures["agree_first"].value == 1
    ids = [item["id"] for item in dataset]
    shutil.copy(decoded_path(tmp_path, ids[0]), decoded_path(tmp_path, ids[1]))
    with pytest.raises(SampleError, match=f"{ids[1]}: .* holds features of sample {ids[0]}"):
        score(dataset, setup, Decoded(tmp_path))
    decoded_path(tmp_path, ids[1]).write_bytes(b"nothing")
    with pytest.raises(SampleError, match="cannot be read"):
        score(dataset, setup, Decoded(tmp_path))
    decoded_path(tmp_path, ids[1]).unlink()
    with pytest.raises(SampleError, match="is missing"):
        score(dataset, setup, Decoded(tmp_path))


def run(*arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "lamofcbench", "score", *map(str, arguments)],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_command_writes_rows_of_configs_and_of_samples(
    real_archive: Path, tmp_path: Path
) -> None:
    options = ("--archive", real_archive, "--samples", "0:4", "--quantise", "channel:8,2")
    options = (*options, "--knockout", "--mode", "all")
    done = run("in1k-vit", "arc-llm", *options, "--out", "a.json", "--workers", "2", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "agree_rest" in done.stdout
    again = run("in1k-vit", "arc-llm", *options, "--out", "b.json", cwd=tmp_path)
    assert (again.stdout, again.returncode) == (done.stdout, 0)
    rows = json.loads((tmp_path / "a.json").read_text("utf-8"))["rows"]
    assert rows == json.loads((tmp_path / "b.json").read_text("utf-8"))["rows"]
    assert {(row["config"], row["mode"]) for row in rows} == {
        ("in1k-vit", "layer.0"),
        ("in1k-vit", "layer.3"),
        ("arc-llm", "handoff"),
        ("arc-llm", "output"),
    }
    first = next(r for r in rows if (r["mode"], r["point"]) == ("handoff", "uncoded"))
    assert first["keys"][-1] == KEY
    assert first["headline"] == "agree_rest"
    assert (first["fidelity"], first["fidelity_low"], first["kl_rest"]) == (1, 1, 0)
    assert first["samples"] == 4
    assert first["provenance"]["content_hash"]
    zeroed = next(r for r in rows if (r["mode"], r["point"]) == ("layer.3", "zeroed:layer.3"))
    assert zeroed["inert"] is False
    table = pq.read_table(tmp_path / "a.parquet").to_pylist()
    kept = [r for r in table if (r["mode"], r["point"]) == ("handoff", "channel:2")]
    assert {r["sample"] for r in kept} == {f"toy-arc-test-000{i}" for i in range(4)}
    mean = [r["numbers"][0] for r in kept if r["figure"] == "agree_rest"]
    row = next(r for r in rows if (r["mode"], r["point"]) == ("handoff", "channel:2"))
    assert sum(mean) / 4 == pytest.approx(row["fidelity"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("arc-lm",), "Did you mean 'arc-llm'"),
        (("arc-llm", "--mode", "handof"), "Did you mean 'handoff'"),
        (("arc-llm", "--samples", "0:0"), "no samples"),
        (("arc-llm", "--samples", "1000"), "1000"),
        (("arc-llm", "--quantise", "channel:x"), "bits must be numbers"),
        (("arc-llm", "--quantise", "chanel:4"), "Did you mean 'channel'"),
        (("arc-llm", "--samples", "0:1", "--features", "."), "is missing"),
    ],
)
def test_mistakes_get_one_line(
    arguments: tuple[str, ...], message: str, real_archive: Path
) -> None:
    done = run(*arguments, cwd=real_archive.parent)
    assert done.returncode == 2
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, done.stderr
    assert message in lines[0]


def test_other_weights_are_refused(real_archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from lamofcbench.models.llm import Llm

    monkeypatch.setattr(Llm, "revision_of", classmethod(lambda cls, profile: "0" * 64))
    with pytest.raises(ModelError, match="not the weights that made"):
        set_up(load_dataset(real_archive, "arc-llm"))


def test_statistics_are_printed(real_archive: Path) -> None:
    def info(*more: str) -> str:
        command = [sys.executable, "-m", "lamofcbench", "info", "arc-llm", "--stats", *more]
        done = subprocess.run(
            [*command, "--archive", real_archive], capture_output=True, text=True, check=True
        )
        return done.stdout

    assert "layer.4.output" in info()
    keys = json.loads(info("--json"))["keys"]
    assert len(keys) == 11
    output = next(row for row in keys if row["key"] == KEY)
    assert output["dtype"] == "bfloat16"
    assert output["kurtosis"] > output["band"]["kurtosis"][0]
    assert output["outside"] == []
