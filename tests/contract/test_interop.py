"""Exports open with their formats' own libraries, and raw pictures become features again."""

import errno
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from safetensors import safe_open

from lamofcbench.bench.points import Decoded
from lamofcbench.bits import dtype_name, to_storage
from lamofcbench.codecs.hevc import Hevc
from lamofcbench.dataset import FeatureDataset, load_dataset
from lamofcbench.errors import SampleError, SourceError
from lamofcbench.interop.hdf5 import export_hdf5
from lamofcbench.interop.npy import SAMPLE, export_npy
from lamofcbench.interop.output import EXPORT
from lamofcbench.interop.safetensors import export_safetensors
from lamofcbench.interop.yuv import BITS, export_yuv, import_yuv, to_picture
from tests import stores
from tests.verbs import invoke

KEYS = ["layer.0.k_cache", "layer.2.output", "views", "state"]
FOLDERS = {"npy": export_npy, "safetensors": export_safetensors, "yuv": export_yuv}


@pytest.fixture(scope="module")
def dataset(pristine: Path) -> FeatureDataset:
    # The first test samples: one is skipped.
    return load_dataset(pristine, stores.CONFIG, samples="0:6", tensors=KEYS)


def bits(tensor: torch.Tensor) -> Any:
    return to_storage(tensor, dtype_name(tensor), dtype_name(tensor), "")


def test_hdf5_opens_with_h5py_alone(dataset: FeatureDataset, tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    assert export_hdf5(dataset, path) == len(dataset) == 5
    with h5py.File(path) as file:
        assert [name.decode() for name in file["ids"][:]] == dataset.ids()
        for key in KEYS:
            data = file[f"features/{key}"]
            assert data.chunks is None
            assert data.compression is None
            assert [data.shuffle, data.fletcher32, data.scaleoffset] == [False, False, None]
            axes = list(data.attrs["axes"])
            for row, item in enumerate(dataset):
                start, length = (file[f"{name}/{key}"][row] for name in ("start", "length"))
                found = data[start : start + length]
                order = [axes.index(axis) for axis in dataset.axes(key)]
                tensor = item["features"][key]
                assert np.array_equal(found.transpose(order), bits(tensor))
                assert data.attrs["logical_dtype"] == dtype_name(tensor)
        cache = file["features/layer.0.k_cache"]
        assert cache.dtype == np.uint16
        assert list(cache.attrs["axes"]) == ["token", "head", "dim"]
        total = sum(item["lengths"]["token"] for item in dataset)
        assert cache.shape == (total, 2, 4)
    before = path.read_bytes()
    assert export_hdf5(dataset, path) == 5
    assert len(path.read_bytes()) == len(before)
    other = load_dataset(dataset.store.parents[1], stores.CONFIG, samples="0:2", tensors=KEYS)
    for mistake in (path, tmp_path / "notes"):
        (tmp_path / "notes").write_text("mine")
        with pytest.raises(SampleError, match="something else"):
            export_hdf5(other, mistake)


def test_npy_holds_the_bits(dataset: FeatureDataset, tmp_path: Path) -> None:
    assert export_npy(dataset, tmp_path) == 5
    for item in dataset:
        folder = tmp_path / item["id"]
        said = json.loads((folder / SAMPLE).read_bytes())
        assert said["sample"] == item["id"]
        for key, tensor in item["features"].items():
            assert np.array_equal(np.load(folder / f"{key}.npy"), bits(tensor))
            assert said["tensors"][key]["dtype"] == dtype_name(tensor)
            assert said["tensors"][key]["axes"] == list(dataset.axes(key))
        assert said["tensors"]["layer.0.k_cache"]["stored_dtype"] == "uint16"
        assert said["tensors"]["layer.0.k_cache"]["bits_of"] == "bfloat16"
        assert said["tensors"]["views"]["bits_of"] is None


def test_safetensors_are_what_scoring_takes(dataset: FeatureDataset, tmp_path: Path) -> None:
    assert export_safetensors(dataset, tmp_path) == 5
    for item in dataset:
        with safe_open(tmp_path / f"{item['id']}.safetensors", "pt") as file:
            assert file.metadata() == {"sample": item["id"]}
            assert set(file.keys()) == set(KEYS)
        found = Decoded(tmp_path)(item["id"], item["features"])
        for key, tensor in item["features"].items():
            assert dtype_name(found[key]) == dtype_name(tensor)
            assert np.array_equal(bits(found[key]), bits(tensor))


@pytest.mark.parametrize("depth", BITS)
def test_pictures_without_a_codec_give_the_quantised_values(
    depth: int, dataset: FeatureDataset, tmp_path: Path
) -> None:
    planes, out = tmp_path / "planes", tmp_path / "features"
    export_yuv(dataset, planes, bits=depth)
    assert import_yuv(planes, out) == 5
    for item in dataset:
        found = Decoded(out)(item["id"], item["features"])
        assert found.keys() == item["features"].keys()
        for key, tensor in item["features"].items():
            said = json.loads((planes / item["id"] / f"{key}.json").read_bytes())
            data = (planes / item["id"] / f"{key}.yuv").read_bytes()
            assert len(data) == said["bytes"]
            assert said["bytes"] == said["width"] * said["height"] * (1 if depth == 8 else 2)
            assert said["width"] % 16 == said["height"] % 16 == 0
            low, high = (float(value) for value in tensor.double().aminmax())
            step = (high - low) / ((1 << depth) - 1)
            levels = ((tensor.double() - low) / (step or 1)).round()
            want = (said["offset"] + said["scale"] * levels).to(tensor.dtype)
            assert torch.equal(found[key], want)
            # The picture itself holds these levels, once each.
            kind = np.uint8 if depth == 8 else np.dtype("<u2")
            assert np.frombuffer(data, kind).max() == levels.max()


def coded(folder: Path, out: Path) -> None:
    """Every picture through x265: its command line if there is one, else its library."""
    codec = Hevc(4, 0.0, "usual")
    for path in sorted(folder.glob("*/*.json")):
        said, raw = json.loads(path.read_bytes()), path.with_suffix(".yuv")
        target = out / path.parent.name / raw.name
        target.parent.mkdir(parents=True, exist_ok=True)
        if (x265 := shutil.which("x265")) is not None:
            size = f"{said['width']}x{said['height']}"
            command = [x265, "--input", raw, "--input-res", size, "--input-csp", "i400"]
            command += ["--input-depth", "10", "--output-depth", "10", "--fps", "1", "--qp", "4"]
            command += ["--allow-non-conformance", "--recon", target, "--recon-depth", "10"]
            # Some builds have 8 bits alone.
            command += ["-o", target.with_suffix(".hevc")]
            if not subprocess.run(command, capture_output=True, check=False).returncode:
                continue
        size = (said["height"], said["width"])
        picture = np.frombuffer(raw.read_bytes(), "<u2").reshape(size)
        stream = codec.encode_picture(picture.astype(np.uint16))
        assert len(stream) < raw.stat().st_size
        target.write_bytes(codec.decode_picture(stream, size).astype("<u2").tobytes())


def test_pictures_through_an_encoder_come_back(dataset: FeatureDataset, tmp_path: Path) -> None:
    planes, decoded, out = (tmp_path / name for name in ("planes", "decoded", "features"))
    few = dataset.subset(dataset.ids()[:2])
    few.keys = KEYS[:2]
    export_yuv(few, planes)
    coded(planes, decoded)
    assert import_yuv(decoded, out, planes) == 2
    for item in few:
        for key, found in Decoded(out)(item["id"], item["features"]).items():
            tensor = item["features"][key].double()
            assert dtype_name(found) == dtype_name(item["features"][key])
            error = (tensor - found.double()).abs().max()
            assert error <= 0.02 * (tensor.max() - tensor.min())


def spoiled(folder: Path, what: str) -> None:
    picture = next(folder.glob("*/state.yuv"))
    sidecar = picture.with_suffix(".json")
    said = json.loads(sidecar.read_bytes())
    if what == "short":
        picture.write_bytes(picture.read_bytes()[:-2])
    elif what == "deep":
        picture.write_bytes(b"\xff" * said["bytes"])
    elif what == "missing":
        picture.unlink()
    elif what == "foreign":
        sidecar.write_text(json.dumps(said | {"manifest_sha256": "0" * 64}))
    elif what == "moved":
        sidecar.write_text(json.dumps(said | {"key": "views"}))
    elif what == "packing":
        sidecar.write_text(json.dumps(said | {"packing": "tiles"}))
    elif what == "shape":
        sidecar.write_text(json.dumps(said | {"shape": [1 << 30, 1 << 30]}))
    elif what == "offset":
        sidecar.write_text(json.dumps(said | {"offset": float("nan")}))
    elif what == "escape":
        sidecar.write_text(json.dumps(said | {"sample": "../../x"}))


@pytest.mark.parametrize(
    ("what", "says"),
    [
        ("short", "its sidecar says"),
        ("deep", "more than 10 bits"),
        ("missing", "No such file"),
        ("foreign", "another export"),
        ("moved", "says that it is of"),
        ("packing", "does not fit"),
        ("shape", "does not fit"),
        ("offset", "not a sidecar"),
        ("escape", "says that it is of"),
    ],
)
def test_wrong_pictures_are_refused(
    what: str, says: str, dataset: FeatureDataset, tmp_path: Path
) -> None:
    export_yuv(dataset.subset(dataset.ids()[:1]), tmp_path / "planes")
    spoiled(tmp_path / "planes", what)
    with pytest.raises(SourceError, match=says) as refused:
        import_yuv(tmp_path / "planes", tmp_path / "out")
    assert "\n" not in str(refused.value)
    assert not list(tmp_path.glob("out/*.safetensors"))


def test_values_that_are_not_finite_make_no_picture() -> None:
    with pytest.raises(SampleError, match="not finite"):
        to_picture(torch.tensor([1.0, float("nan")]), ("dim",), 10)


def test_constant_tensors_make_pictures() -> None:
    picture, packing, scale, offset = to_picture(torch.full((3,), 2.5), ("dim",), 8, align=1)
    assert (picture.tolist(), packing, scale, offset) == ([[0, 0, 0]], "vector", 0.0, 2.5)


class Failing:
    """Samples of which the second cannot be read."""

    def __init__(self, dataset: FeatureDataset) -> None:
        self._dataset = dataset

    def __getattr__(self, name: str) -> Any:
        return getattr(self._dataset, name)

    def __len__(self) -> int:
        return len(self._dataset)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        yield self._dataset[0]
        raise RuntimeError("unplugged")


@pytest.mark.parametrize("target", [*FOLDERS, "hdf5"])
def test_an_interrupted_export_looks_like_one(
    target: str, dataset: FeatureDataset, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    export = FOLDERS.get(target, export_hdf5)
    with pytest.raises(RuntimeError, match="unplugged"):
        export(Failing(dataset), out)
    left = [path for path in tmp_path.rglob("*") if path.is_file()]
    if target == "hdf5":
        assert left == []
    else:
        assert not any(path.name.endswith(".tmp") for path in left)
        assert json.loads((out / EXPORT).read_bytes())["complete"] is False
    # Asked for again, it is done; and asked for otherwise, it is refused.
    assert export(dataset, out) == 5
    if target != "hdf5":
        assert json.loads((out / EXPORT).read_bytes())["complete"] is True
    with pytest.raises(SampleError, match="something else"):
        export(dataset.subset(dataset.ids()[:2]), out)


@pytest.mark.parametrize("target", [*FOLDERS, "hdf5"])
def test_a_full_disk_is_one_line(
    target: str, dataset: FeatureDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def full(handle: int) -> None:
        calls.append(handle)
        if target == "hdf5" or len(calls) > 4:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(SampleError, match="cannot be written: No space left") as refused:
        FOLDERS.get(target, export_hdf5)(dataset, tmp_path / "out")
    assert "\n" not in str(refused.value)
    left = [path.name for path in tmp_path.rglob("*") if path.is_file()]
    assert not any(name.endswith(".tmp") for name in left)
    assert (left == []) == (target == "hdf5")


def test_a_folder_of_somebody_elses_is_left_alone(dataset: FeatureDataset, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("mine")
    for export in FOLDERS.values():
        with pytest.raises(SampleError, match="something else"):
            export(dataset, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_the_verbs_export_and_import_pictures(pristine: Path, tmp_path: Path) -> None:
    planes, features = tmp_path / "planes", tmp_path / "features"
    done = invoke(
        *("export", stores.CONFIG, "--to", "yuv", "--out", planes, "--archive", pristine),
        *("--tensors", "views,layer.0.*", "--samples", "0:2", "--bits", "16", "--align", "8"),
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert sorted(path.name for path in planes.glob("*/*.yuv")) == [
        *("layer.0.k_cache.yuv", "views.yuv")
    ]
    done = invoke("import", planes, "--from", "yuv", "--out", features)
    assert (done.returncode, done.stdout) == (0, f"1 samples in {features}\n")
    for mistake in (
        ("import", planes, "--from", "yuv"),
        ("import", features, "--from", "yuv", "--out", tmp_path / "other"),
        ("import", tmp_path / "nowhere", "--config", "arc-llm"),
        ("export", stores.CONFIG, "--to", "npy", "--out", planes, "--archive", pristine),
        ("export", stores.CONFIG, "--to", "npy", "--bits", "8", "--out", tmp_path / "x"),
        ("export", stores.CONFIG, "--to", "reference", "--archive", pristine, "--out", tmp_path),
    ):
        done = invoke(*mistake)
        assert done.returncode == 2, mistake
        assert done.stderr.strip()
        assert "Traceback" not in done.stderr
