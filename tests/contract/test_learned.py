"""Networks as codecs: training, checkpoints, and decoding elsewhere."""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import click
import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from lamofcbench import load_dataset
from lamofcbench.bench.plan import BenchRequest, Plan
from lamofcbench.bench.points import decoded_path
from lamofcbench.bench.rates import CodedPoint, held
from lamofcbench.bench.reference import reference_account
from lamofcbench.bench.setup import Setup
from lamofcbench.bitstream import read_bitstream
from lamofcbench.cli import cli
from lamofcbench.codecs import load_codec, parse_codec
from lamofcbench.codecs.artefact import Artefact
from lamofcbench.codecs.learned.base import Learned
from lamofcbench.codecs.learned.checkpoint import load_checkpoint
from lamofcbench.codecs.learned.library import INSTALL, _Placeholder, library
from lamofcbench.codecs.learned.training import train_weights
from lamofcbench.errors import BitstreamError, MissingDependencyError, SampleError
from tests import stores
from tests.learned import need_compressai

TINY = ":n=4,m=6"
NETWORKS = ["hyperprior", "elic", "reference"]


@pytest.fixture(autouse=True)
def _compressai(request: pytest.FixtureRequest) -> None:
    if "without" not in request.node.name:
        need_compressai()


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An archive of one small store."""
    archive = tmp_path_factory.mktemp("toy")
    stores.write(archive, stores.small())
    return archive


def run(*arguments: object) -> None:
    cli([str(argument) for argument in arguments], standalone_mode=False)


def train(toy: Path, out: Path, codec: str, *more: object) -> Artefact:
    run(
        *("train", codec + TINY, stores.CONFIG, "--archive", toy, "--out", out),
        *("--steps", 2, "--batch", 2, *more),
    )
    return Artefact.load(out)


def tensors(name: str) -> tuple[Learned, dict[str, torch.Tensor], dict[str, tuple[str, ...]]]:
    """A codec, and features with a structure that a network can learn."""
    codec = parse_codec(name)
    assert isinstance(codec, Learned)
    rows = torch.linspace(0, 3, 60)[:, None] + torch.arange(64)[None] % 4
    return codec, {"x": rows.sin()}, {"x": ("token", "dim")}


@pytest.mark.parametrize("name", ["hyperprior", "elic"])
def test_training_lowers_its_loss(name: str) -> None:
    codec, features, axes = tensors(f"{name}:n=6,m=8")
    losses: list[float] = []
    weights = train_weights(
        codec,
        [features],
        axes,
        codec.fit_scalings([features], axes),
        steps=40,
        lmbda=0.01,
        batch=1,
        rate=5e-3,
        step=losses.append,
    )
    assert np.mean(losses[-5:]) < 0.5 * np.mean(losses[:5])
    assert all(tensor.isfinite().all() for tensor in weights.values())


@pytest.mark.parametrize(
    "wrong", [{"steps": 0}, {"lmbda": 0.0}, {"lmbda": float("nan")}, {"patch": 100}, {"batch": 0}]
)
def test_training_refuses_what_it_cannot_do(wrong: dict[str, Any]) -> None:
    codec, features, axes = tensors("hyperprior" + TINY)
    scalings = codec.fit_scalings([features], axes)
    with pytest.raises(SampleError, match="training needs"):
        train_weights(codec, [features], axes, scalings, **({"steps": 1, "lmbda": 1.0} | wrong))


def test_the_same_request_trains_the_same_artefact(toy: Path, tmp_path: Path) -> None:
    torch.rand(3)
    first = train(toy, tmp_path / "a", "hyperprior")
    threads = torch.get_num_threads()
    torch.set_num_threads(threads % 2 + 1)
    torch.rand(1)
    try:
        assert train(toy, tmp_path / "b", "hyperprior").sha256 == first.sha256
        assert torch.get_num_threads() == threads % 2 + 1
    finally:
        torch.set_num_threads(threads)
    assert train(toy, tmp_path / "c", "hyperprior", "--seed", 1).sha256 != first.sha256
    assert first.about["trained_on"] == stores.CONFIG
    assert first.about["lmbda"] == "0.01"


@pytest.mark.parametrize("name", ["hyperprior", "elic"])
def test_a_fresh_process_decodes_bit_for_bit(name: str, toy: Path, tmp_path: Path) -> None:
    """Of files alone, with another number of threads: just what is measured here."""
    train(toy, tmp_path / "a.safetensors", name, "--mode", "all")
    chosen = ("--artefact", tmp_path / "a.safetensors")
    run(
        *("encode", stores.CONFIG, "--codec", name, "--samples", "0:3", "--archive", toy),
        *("--out", tmp_path / "coded", *chosen),
    )
    command = ["decode", str(tmp_path / "coded"), "--out", "decoded", *map(str, chosen)]
    subprocess.run(
        [sys.executable, "-m", "lamofcbench", *command],
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "2"},
        check=True,
    )
    codec, _ = load_codec(f"{name}@{tmp_path / 'a.safetensors'}")
    dataset = load_dataset(toy, stores.CONFIG, samples=range(3))
    keys = dataset.manifest.declaration.mode().keys
    common = held(dataset, keys)
    point = CodedPoint(codec, common)
    assert len(dataset) > 1
    for item in dataset:
        here = point(item["id"], {key: item["features"][key] for key in keys})
        there = load_file(decoded_path(tmp_path / "decoded", item["id"]))
        # This store's shared tokens are alike in their ids alone.
        here, there = common.without(here), common.without(there)
        assert all(torch.equal(here[key], there[key]) for key in keys)


def test_reference_columns_count_strings_of_all_keys(toy: Path, tmp_path: Path) -> None:
    train(toy, tmp_path / "some", "reference")
    train(toy, tmp_path / "all", "reference", "--mode", "all")
    dataset = load_dataset(toy, stores.CONFIG, samples=range(3))
    ids = [item["id"] for item in dataset]
    assert reference_account(dataset, ids, load_codec(f"reference@{tmp_path / 'some'}")[0]) is None
    assert reference_account(dataset, ids, parse_codec("zstd")) is None
    codec, _ = load_codec(f"reference@{tmp_path / 'all'}")
    assert isinstance(codec, Learned)
    account = reference_account(dataset, ids, codec)
    common = held(dataset, dataset.manifest.declaration.mode().keys)
    point = CodedPoint(codec, common, reference=account)
    item = dataset[1]
    point(item["id"], {key: item["features"][key] for key in common.axes})
    axes = {key: dataset.axes(key) for key in dataset.keys}
    stream = read_bitstream(codec.encode(item["features"], axes))
    # A checksum of 2 bytes and one length, in a byte if it is below 128, stand before the strings.
    payloads = [part.payload for part in stream.keys.values()]
    strings = sum(len(payload) - (3 if payload[2] < 128 else 4) for payload in payloads)
    elements = sum(tensor.numel() for tensor in item["features"].values())
    assert len(stream.keys) > len(common.axes)
    assert point.numbers()["bpfp_ref"] == [8 * strings / elements]


def test_a_board_plans_what_is_given_with_its_artefact(toy: Path, tmp_path: Path) -> None:
    path = tmp_path / "h.safetensors"
    artefact = train(toy, path, "hyperprior", "--mode", "all")
    dataset = load_dataset(toy, stores.CONFIG, samples=range(3))
    keys = dataset.manifest.declaration.mode().keys
    request = BenchRequest(
        stores.CONFIG,
        ("zstd", f"hyperprior@{path}"),
        ("own",),
        None,
        str(toy),
        None,
        None,
        0,
        "cpu",
    )
    setup = cast(Setup, SimpleNamespace(keys=keys))
    _, lossless, planned = Plan(request, setup, dataset, [row["id"] for row in dataset])
    assert lossless.label == "zstd"
    assert planned.label == f"hyperprior@h#{artefact.sha256.hex()[:8]}"
    point, columns = planned.make()
    assert columns["fit"] == "own"
    assert columns["artefact_sha256"] == artefact.sha256.hex()
    assert isinstance(point, CodedPoint)
    assert point.artefact_bytes == path.stat().st_size
    point(dataset[1]["id"], {key: dataset[1]["features"][key] for key in keys})
    numbers = point.numbers()
    assert {"bpfp", "bpfp_ref", "ebpfp_ref", "mse_ref"} <= set(numbers)


def checkpoint(codec: Learned, path: Path, **changes: torch.Tensor | None) -> dict[str, Any]:
    """What a release of CompressAI before 1.2.7 wrote of a network trained in parallel."""
    network = codec.build()
    state = network.state_dict() | codec.untrained(3) | changes
    old = {"matrices.": "_matrix", "biases.": "_bias", "factors.": "_factor"}
    renamed = {}
    for name, tensor in state.items():
        if tensor is None:
            continue
        for new, before in old.items():
            name = name.replace(f"entropy_bottleneck.{new}", f"entropy_bottleneck.{before}")
        renamed["module." + name] = tensor
    whole = {"epoch": 7, "state_dict": renamed, "optimizer": {"state": {}, "param_groups": []}}
    torch.save(whole, path)
    return renamed


@pytest.mark.parametrize("name", NETWORKS)
def test_a_checkpoint_becomes_an_artefact(name: str, toy: Path, tmp_path: Path) -> None:
    path = tmp_path / "c.pth.tar"
    codec = parse_codec(name + TINY)
    assert isinstance(codec, Learned)
    names = checkpoint(codec, path)
    assert any("_matrix0" in name for name in names)
    run(
        *("calibrate", stores.CONFIG, "--codec", name + TINY, "--checkpoint", path),
        *("--archive", toy, "--out", tmp_path / "a"),
    )
    artefact = Artefact.load(tmp_path / "a")
    assert artefact.about["fit"] == "published"
    for weight, tensor in codec.untrained(3).items():
        assert np.array_equal(artefact.tensors[f"weight/{weight}"], tensor.detach().numpy())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"g_a.0.weight": torch.zeros(4, 3, 5, 5)},
            r"g_a.0.weight has shape \[4, 3, 5, 5\], needs \[4, 1, 5, 5\]",
        ),
        ({"h_s.0.bias": None}, r"h_s.0.bias of shape \[4\] is missing"),
        ({"h_s.9.bias": torch.zeros(2)}, r"h_s.9.bias of shape \[2\] is not in it"),
    ],
)
def test_another_architecture_is_refused(
    changes: dict[str, torch.Tensor | None], message: str, tmp_path: Path
) -> None:
    codec = parse_codec("hyperprior" + TINY)
    assert isinstance(codec, Learned)
    checkpoint(codec, tmp_path / "c", **changes)
    with pytest.raises(SampleError, match=message) as refused:
        load_checkpoint(codec, tmp_path / "c")
    assert "\n" not in str(refused.value)
    assert codec.weights is None


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("h_a.0.bias", float("nan"), "h_a.0.bias has values that are not finite"),
        ("entropy_bottleneck.quantiles", 1e9, "quantiles is beyond"),
    ],
)
def test_weights_that_no_table_can_be_made_of_are_refused(
    name: str, value: float, message: str, toy: Path, tmp_path: Path
) -> None:
    codec = parse_codec("hyperprior" + TINY)
    assert isinstance(codec, Learned)
    checkpoint(codec, tmp_path / "c", **{name: torch.full_like(codec.untrained()[name], value)})
    with pytest.raises(SampleError, match=message):
        run(
            *("calibrate", stores.CONFIG, "--codec", "hyperprior" + TINY, "--archive", toy),
            *("--checkpoint", tmp_path / "c", "--out", tmp_path / "a"),
        )
    artefact = train(toy, tmp_path / "b", "hyperprior")
    held = dict(artefact.tensors)
    held[f"weight/{name}"] = np.full_like(held[f"weight/{name}"], value)
    broken = parse_codec("hyperprior", Artefact.make("hyperprior", held, artefact.about))
    with pytest.raises(SampleError, match=message):
        broken.encode({"x": torch.zeros(3, 4)}, {"x": ("token", "dim")})


class Trap:
    """Something that must not be unpickled."""

    def __reduce__(self) -> Any:
        return (os.mkdir, ("sprung",))


def test_what_is_no_checkpoint_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    codec = parse_codec("hyperprior" + TINY)
    assert isinstance(codec, Learned)
    (tmp_path / "noise").write_bytes(b"no checkpoint" * 9)
    (tmp_path / "empty").write_bytes(b"")
    torch.save(Trap(), tmp_path / "trap")
    torch.save({"state_dict": {"a": 3}}, tmp_path / "number")
    torch.save([], tmp_path / "list")
    for name in ("noise", "empty", "trap", "number", "list", "missing"):
        with pytest.raises(SampleError, match="no checkpoint") as refused:
            load_checkpoint(codec, tmp_path / name)
        assert "\n" not in str(refused.value)
    assert not (tmp_path / "sprung").exists()


def test_an_artefact_says_what_it_was_made_with(toy: Path, tmp_path: Path) -> None:
    path = tmp_path / "a"
    artefact = train(toy, path, "hyperprior")
    codec, _ = load_codec(f"hyperprior@{path}")
    assert isinstance(codec, Learned)
    assert (codec.n, codec.m, codec.parameters) == (4, 6, {})
    with pytest.raises(SampleError, match="n=8, but the artefact has n=4"):
        load_codec(f"hyperprior:n=8@{path}")
    with pytest.raises(SampleError, match="the artefact is of hyperprior"):
        load_codec(f"elic@{path}")
    with pytest.raises(SampleError, match="is trained: name its artefact, as in elic@FILE"):
        load_codec("elic")
    with pytest.raises(SampleError, match="x: hyperprior was not fitted for it"):
        codec.encode({"x": torch.zeros(3, 4)}, {"x": ("token", "dim")})
    other = Artefact.make(
        artefact.codec, artefact.tensors, dict(artefact.about) | {"tables": "00000000"}
    )
    elsewhere = parse_codec("hyperprior", other)
    with pytest.raises(BitstreamError, match="makes other tables"):
        elsewhere.encode({"x": torch.zeros(3, 4)}, {"x": ("token", "dim")})


def test_integers_that_differ_are_not_decoded(toy: Path, tmp_path: Path) -> None:
    """As where another processor rounds otherwise: an error, never a wrong tensor."""
    train(toy, tmp_path / "a", "hyperprior")
    codec, _ = load_codec(f"hyperprior@{tmp_path / 'a'}")
    item = load_dataset(toy, stores.CONFIG)[0]
    axes = {"layer.0.k_cache": ("head", "token", "dim")}
    data = codec.encode({key: item["features"][key] for key in axes}, axes)
    stream = read_bitstream(data)
    part = stream.keys["layer.0.k_cache"]
    refused = 0
    for at in range(2, len(part.payload)):
        payload = bytearray(part.payload)
        payload[at] ^= 16
        try:
            codec.decode_tensor("layer.0.k_cache", type(part)(bytes(payload), *_rest(part)))
        except BitstreamError:
            refused += 1
    # The range coder's last bytes may say nothing.
    assert refused >= len(part.payload) - 12


def _rest(part: Any) -> tuple[Any, ...]:
    return part.shape, part.dtype, part.axes


def test_a_command_without_an_artefact_says_how_to_make_one(toy: Path, tmp_path: Path) -> None:
    base = ("--archive", toy, "--out", tmp_path / "r")
    with pytest.raises(SampleError, match="lamofcbench train"):
        run("calibrate", stores.CONFIG, "--codec", "elic" + TINY, *base)
    with pytest.raises(SampleError, match="zstd is not trained"):
        run("train", "zstd", stores.CONFIG, *base)
    path = tmp_path / "c"
    path.write_bytes(b"")
    with pytest.raises(SampleError, match="is no network"):
        run("calibrate", stores.CONFIG, "--codec", "kmeans", "--checkpoint", path, *base)
    with pytest.raises(click.UsageError):
        run("train", "elic", *base)


def test_placeholders_do_not_stay() -> None:
    library()
    assert not [name for name, module in sys.modules.items() if isinstance(module, _Placeholder)]


def test_without_compressai_one_line_has_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "compressai", None)
    library.cache_clear()
    codec = parse_codec("hyperprior" + TINY)
    assert isinstance(codec, Learned)
    with pytest.raises(MissingDependencyError) as missing:
        codec.untrained()
    assert INSTALL in str(missing.value)
    assert "\n" not in str(missing.value)
    library.cache_clear()
