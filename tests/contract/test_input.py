"""The anchor: inputs coded in place of features."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from extraction.inputs import write_config
from lamofcbench import load_dataset
from lamofcbench.bench.input_codec import InputCodec
from lamofcbench.bench.input_files import InputFolder
from lamofcbench.bench.rates import held
from lamofcbench.cli import cli
from lamofcbench.errors import BitstreamError, IntegrityError, LamofcError, SampleError

SMOOTH = np.add.outer(np.arange(40), np.arange(60)).astype(np.uint8)
COLOUR = np.stack([SMOOTH, SMOOTH[::-1], 255 - SMOOTH], 2)
SOUND = (np.sin(np.arange(16_123) / 20) * 0.3).astype(np.float32)


def bench(archive: Path, out: Path, config: str, *arguments: object) -> list[dict[str, Any]]:
    words = ("bench", config, *arguments, "--archive", archive, "--samples", "0:2", "--out", out)
    command = [str(word) for word in (*words, "--workers", 1)]
    done = CliRunner().invoke(cli, command, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    rows: list[dict[str, Any]] = json.loads(out.read_text())["rows"]
    return rows


@pytest.mark.parametrize(
    ("config", "mode", "text"),
    [
        ("in1k-vit", "layer.3", "input:format=raw"),
        ("arc-llm", "handoff", "input"),
        ("vqa-mllm", "vision", "input:format=png"),
        ("canny-t2i", "latent", "input:format=jpegxl,quality=100"),
        ("librispeech-clean-alm", "handoff", "input:format=raw"),
    ],
)
def test_what_is_sent_whole_gives_the_uncoded_answers(
    config: str, mode: str, text: str, real_archive: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "inputs"
    assert write_config(config, folder, picked="0:2") == 2
    out, options = tmp_path / "r.json", ("--mode", mode, "--codec", text, "--inputs", folder)
    uncoded, row = bench(real_archive, out, config, *options)
    assert row["codec"] == "input"
    assert (row["mse"], row["rel_mse"], row["score_loss"]) == (0, 0, 0)
    names = [n for n in row if n in uncoded and n not in ("point", "codec", "params")]
    assert {n: row[n] for n in names} == {n: uncoded[n] for n in names}

    # Its rate is of all parts, over what codecs code.
    dataset = load_dataset(real_archive, config, samples=range(2))
    common = held(dataset, dataset.manifest.declaration.mode(mode).keys)
    inputs, rates = InputFolder.open(folder, config, "tiny"), []
    for position, item in enumerate(dataset):
        parts = inputs.parts(item["id"], dataset.source_sha256(position))
        sent = {name: value for name, value in parts.items() if name not in inputs.constant}
        data = InputCodec.parse(text).encode(sent)
        assert set(InputCodec.decode(data)) == set(sent)
        part = common.without({key: item["features"][key] for key in common.axes})
        rates.append(8 * len(data) / sum(tensor.numel() for tensor in part.values()))
    assert row["bpfp"] == pytest.approx(sum(rates) / 2, rel=1e-12)


def test_coarser_inputs_cost_less_and_keep_less(real_archive: Path, tmp_path: Path) -> None:
    write_config("nyuv2-vit", tmp_path, picked="0:2")
    specs = [f"input:format=jpeg,quality={quality}" for quality in (90, 10)]
    options = (word for spec in specs for word in ("--codec", spec))
    _, fine, coarse = bench(
        real_archive, tmp_path / "r.json", "nyuv2-vit", *options, "--inputs", tmp_path
    )
    assert fine["bpfp"] > coarse["bpfp"]
    assert 0 < fine["mse"] < coarse["mse"]
    assert 1 >= fine["fidelity"] > coarse["fidelity"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--codec", "input:format=jpeg,quality=80"), "python -m extraction.inputs in1k-vit"),
        (("--codec", "input:format=jpg"), "Did you mean 'jpeg'"),
        (("--codec", "input:format=jpeg"), "takes quality"),
        (("--codec", "input:format=opus,kbps=2"), "from 6 to 256"),
        (("--codec", "input", "--inputs", "."), "no raw inputs here"),
    ],
)
def test_mistakes_say_what_to_do(
    arguments: tuple[str, ...], message: str, real_archive: Path, tmp_path: Path
) -> None:
    with pytest.raises(LamofcError, match=message):
        bench(real_archive, tmp_path / "r.json", "in1k-vit", *arguments)


def test_inputs_of_another_source_are_refused(tmp_path: Path) -> None:
    write_config("in1k-vit", tmp_path, picked="0:1")
    inputs = InputFolder.open(tmp_path, "in1k-vit", "tiny")
    (sample, entry), *_ = inputs.samples.items()
    parts = inputs.parts(sample, entry["source_sha256"])
    assert parts["image"].dtype == np.uint8
    with pytest.raises(IntegrityError, match="not what its features were made of"):
        inputs.parts(sample, "0" * 64)
    with pytest.raises(SampleError, match="no raw inputs"):
        inputs.parts("another", "0" * 64)
    (path,) = inputs.place.glob("*.npy")
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(IntegrityError, match="missing or altered"):
        inputs.parts(sample, entry["source_sha256"])


@pytest.mark.parametrize("image", [SMOOTH, COLOUR], ids=["grey", "colour"])
def test_images_come_back(image: Any) -> None:
    for text in ("format=raw", "format=png", "format=jpegxl,quality=100"):
        data = InputCodec.parse(f"input:{text}").encode({"image": image, "question": "what?"})
        parts = InputCodec.decode(data)
        assert parts["question"] == "what?"
        assert np.array_equal(parts["image"], image)
    for name in ("jpeg", "jpegxl"):
        sizes, errors = [], []
        for quality in (95, 60, 20, 5):
            data = InputCodec.parse(f"input:format={name},quality={quality}").encode(
                {"image": image}
            )
            found = InputCodec.decode(data)["image"]
            assert found.shape == image.shape
            sizes.append(len(data))
            errors.append(float(np.abs(found.astype(float) - image).mean()))
        assert sizes[0] > sizes[-1]
        assert errors[0] < errors[-1] < 20


def test_audio_comes_back() -> None:
    flac = InputCodec.parse("input:format=flac").encode({"audio": SOUND, "prompt": ""})
    parts = InputCodec.decode(flac)
    assert parts["prompt"] == ""
    assert np.abs(parts["audio"] - SOUND).max() <= 0.5 / 32768
    sizes = []
    for kbps in (64, 24, 8):
        data = InputCodec.parse(f"input:format=opus,kbps={kbps}").encode({"audio": SOUND})
        found = InputCodec.decode(data)["audio"]
        assert found.shape == SOUND.shape
        assert np.corrcoef(found, SOUND)[0, 1] > 0.95
        sizes.append(len(data))
    assert sizes == sorted(sizes, reverse=True)


def test_text_costs_no_more_than_itself() -> None:
    codec = InputCodec.parse("input")
    long = "the same words again and again " * 40
    assert len(codec.encode({"prompt": long})) < len(long) / 10
    for text in ("why?", long, "é ü"):
        assert InputCodec.decode(codec.encode({"prompt": text})) == {"prompt": text}
    assert len(codec.encode({"prompt": "why?"})) == 1 + 1 + 4
    with pytest.raises(SampleError, match="image cannot be coded as zstd"):
        codec.encode({"image": COLOUR})
    with pytest.raises(SampleError, match="audio cannot be coded as jpeg"):
        InputCodec.parse("input:format=jpeg,quality=9").encode({"audio": SOUND})


@pytest.mark.parametrize("text", ["format=raw", "format=png", "format=jpegxl,quality=90"])
def test_bytes_that_are_cut_are_refused(text: str) -> None:
    data = InputCodec.parse(f"input:{text}").encode({"image": COLOUR, "question": "why?"})
    for cut in (1, 2, 30, len(data) - 1):
        with pytest.raises(BitstreamError):
            InputCodec.decode(data[:cut])
    with pytest.raises(BitstreamError):
        InputCodec.decode(b"\xff" + data)
