"""Sources of images, on small folders in the data sets' official layouts."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import scipy.io
from PIL import Image

from extraction.sources import SOURCES
from extraction.sources.base import Source, SourceSample
from extraction.sources.wnid_folders import class_numbers
from lamofcbench.errors import SampleError, SourceError
from lamofcbench.scores.classes import IMAGENET_A, IMAGENET_R
from lamofcbench.spec import load_scenario

WNIDS = list(class_numbers())
CALIBRATION = 32


def source(config: str, folder: Path | None, seed: int = 0) -> Source:
    profile = load_scenario(config).profile("full")
    changed = profile.source.model_copy(update={"seed": seed})
    made = SOURCES.load(changed.name)(profile.model_copy(update={"source": changed}), folder)
    assert isinstance(made, Source)
    return made


def write_image(path: Path, seed: int, size: tuple[int, int] = (6, 8)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)
    Image.fromarray(pixels).save(path, format="JPEG" if path.suffix != ".png" else "PNG")


def imagenet(root: Path) -> None:
    for i in range(20):
        for j in range(3):
            write_image(root / "val" / WNIDS[i] / f"ILSVRC2012_val_{i * 3 + j:08d}.JPEG", i)
            write_image(root / "train" / WNIDS[i] / f"{WNIDS[i]}_{j}.JPEG", 100 + i)


def imagenet_flat(root: Path) -> None:
    imagenet(root)
    lines = ["ImageId,PredictionString"]
    for path in sorted((root / "val").glob("*/*.JPEG")):
        lines.append(f"{path.stem},{path.parent.name} 1 2 3 4 {path.parent.name} 1 2 3 4")
        path.rename(root / "val" / path.name)
    for folder in (root / "val").glob("n*"):
        folder.rmdir()
    (root / "LOC_val_solution.csv").write_text("\n".join(lines) + "\n", "utf-8")


def kaggle(root: Path) -> None:
    imagenet_flat(root / "made")
    inner = root / "ILSVRC" / "Data"
    inner.mkdir(parents=True)
    (root / "made" / "LOC_val_solution.csv").rename(root / "LOC_val_solution.csv")
    (root / "made").rename(inner / "CLS-LOC")


def subset(numbers: tuple[int, ...], below: str) -> Callable[[Path], None]:
    def write(root: Path) -> None:
        for i in numbers[:15]:
            for j in range(4):
                write_image(root / below / WNIDS[i] / f"{i}_{j}.jpg", i * 4 + j)

    return write


def ade20k(root: Path) -> None:
    random = np.random.default_rng(0)
    for split, name, count in (("training", "train", 40), ("validation", "val", 10)):
        for i in range(count):
            base = root / "ADEChallengeData2016"
            size = (6 + i % 3, 9)
            write_image(base / "images" / split / f"ADE_{name}_{i:08d}.jpg", i, size)
            path = base / "annotations" / split / f"ADE_{name}_{i:08d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(random.integers(0, 151, size, np.uint8)).save(path)


def nyu_mat(root: Path) -> None:
    random = np.random.default_rng(0)
    with h5py.File(root / "nyu_depth_v2_labeled.mat", "w") as file:
        file["images"] = random.integers(0, 256, (50, 3, 8, 6), np.uint8)
        file["rawDepths"] = random.uniform(0, 9, (50, 8, 6)).astype(np.float32)
        file["depths"] = random.uniform(0, 9, (50, 8, 6)).astype(np.float32)
    test = np.arange(1, 51)[::5]
    train = np.setdiff1d(np.arange(1, 51), test)
    scipy.io.savemat(root / "splits.mat", {"testNdxs": test[:, None], "trainNdxs": train[:, None]})


def nyu_folders(root: Path) -> None:
    random = np.random.default_rng(0)
    for split, count in (("train", 20), ("test", 5)):
        for scene in ("bathroom", "office_0001"):
            for i in range(count):
                write_image(root / split / scene / f"rgb_{i:05d}.jpg", i)
                depth = random.integers(0, 9000, (6, 8)).astype(np.uint16)
                Image.fromarray(depth).save(root / split / scene / f"sync_depth_{i:05d}.png")


LAYOUTS: dict[str, tuple[str, Callable[[Path], None]]] = {
    "imagenet": ("in1k-vit", imagenet),
    "imagenet-flat": ("in1k-vit", imagenet_flat),
    "imagenet-kaggle": ("in1k-vit", kaggle),
    "imagenet-a": ("in1ka-vit", subset(IMAGENET_A, "imagenet-a")),
    "imagenet-r": ("in1kr-vit", subset(IMAGENET_R, "")),
    "ade20k": ("ade20k-vit", ade20k),
    "nyuv2-mat": ("nyuv2-vit", nyu_mat),
    "nyuv2-folders": ("nyuv2-vit", nyu_folders),
}


@pytest.fixture(params=LAYOUTS)
def layout(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, Path]:
    config, write = LAYOUTS[request.param]
    write(tmp_path)
    return config, tmp_path


def described(samples: Any) -> list[tuple[str, str, str]]:
    return [(sample.id, sample.source_id, sample.sha256) for sample in samples]


def test_each_layout_is_read(layout: tuple[str, Path]) -> None:
    config, folder = layout
    profile = load_scenario(config).profile("full")
    for split, count in (("test", 10), ("calibration", CALIBRATION)):
        samples = source(config, folder).select(split, count)
        assert len(samples) == count
        assert len({sample.id for sample in samples}) == count
        for sample in samples:
            image = sample.inputs["image"]
            assert image.dtype == np.uint8
            assert image.ndim == 3
            names = {*profile.reference, *(t.name for t in profile.reference_arrays)}
            assert set(sample.reference) == names
            for tensor in profile.reference_arrays:
                array = sample.reference[tensor.name]
                assert array.dtype == tensor.captured
                assert array.shape == (image.shape[0] * image.shape[1],)


def test_test_and_calibration_never_meet(layout: tuple[str, Path]) -> None:
    config, folder = layout
    test = source(config, folder).select("test", 10)
    calibration = source(config, folder).select("calibration", CALIBRATION)
    assert not {s.source_id for s in test} & {s.source_id for s in calibration}


def test_selection_is_fixed_by_the_seed(layout: tuple[str, Path]) -> None:
    config, folder = layout
    whole = described(source(config, folder).select("test", 10))
    assert described(source(config, folder).select("test", 10)) == whole
    assert described(source(config, folder, seed=1).select("test", 10)) != whole
    for count in (0, 1, 7):
        assert described(source(config, folder).select("test", count)) == whole[:count]


def test_too_many_are_refused(layout: tuple[str, Path]) -> None:
    config, folder = layout
    with pytest.raises(SourceError, match="are needed"):
        source(config, folder).select("test", 1000)


def test_an_empty_or_missing_folder_is_one_line(layout: tuple[str, Path], tmp_path: Path) -> None:
    config, _ = layout
    empty = tmp_path / "empty"
    empty.mkdir()
    for folder in (empty, tmp_path / "nowhere", None):
        with pytest.raises(SourceError) as caught:
            source(config, folder).select("test", 1)
        assert "\n" not in str(caught.value)


def test_classes_come_in_rounds_and_are_numbered_as_imagenets(tmp_path: Path) -> None:
    imagenet(tmp_path)
    samples = source("in1k-vit", tmp_path).select("test", 25)
    labels = [sample.reference["label"] for sample in samples]
    assert sorted(labels[:20]) == list(range(20))
    assert len(set(labels[20:])) == 5
    for sample in samples:
        assert WNIDS[sample.reference["label"]] == sample.source_id.split("/")[0]


def test_flat_and_foldered_validation_images_are_the_same_samples(tmp_path: Path) -> None:
    imagenet(tmp_path / "a")
    imagenet_flat(tmp_path / "b")
    first, second = (described(source("in1k-vit", tmp_path / n).select("test", 30)) for n in "ab")
    assert first == second


def test_there_are_a_thousand_classes_in_order() -> None:
    assert len(WNIDS) == 1000
    assert sorted(WNIDS) == WNIDS
    assert (WNIDS[0], WNIDS[-1]) == ("n01440764", "n15075141")


def test_calibration_of_the_subsets_does_not_depend_on_the_test_count(tmp_path: Path) -> None:
    subset(IMAGENET_A, "")(tmp_path)
    made = source("in1ka-vit", tmp_path)
    calibration = described(made.select("calibration", CALIBRATION))
    everything = described(made.select("test", 28))
    assert not set(calibration) & set(everything)
    with pytest.raises(SourceError, match="no train split"):
        made.select("train", 1)


def test_depth_is_in_metres_and_masks_are_as_stored(tmp_path: Path) -> None:
    for name, write in (("mat", nyu_mat), ("folders", nyu_folders), ("ade", ade20k)):
        (tmp_path / name).mkdir()
        write(tmp_path / name)
    sample = source("nyuv2-vit", tmp_path / "mat").select("test", 3)[2]
    index = int(sample.source_id) - 1
    with h5py.File(tmp_path / "mat" / "nyu_depth_v2_labeled.mat") as file:
        assert np.array_equal(sample.reference["depth"].reshape(6, 8), file["rawDepths"][index].T)
        assert np.array_equal(sample.inputs["image"], file["images"][index].transpose(2, 1, 0))
    sample = source("nyuv2-vit", tmp_path / "folders").select("test", 1)[0]
    image = tmp_path / "folders" / sample.source_id
    stored = np.array(Image.open(str(image).replace("rgb_", "sync_depth_").replace("jpg", "png")))
    assert np.allclose(sample.reference["depth"].reshape(6, 8), stored / 1000)
    sample = source("ade20k-vit", tmp_path / "ade").select("test", 1)[0]
    path = tmp_path / "ade/ADEChallengeData2016/annotations/validation" / f"{sample.id}.png"
    assert np.array_equal(sample.reference["mask"], np.array(Image.open(path)).ravel())


def edit(glob: str, change: Callable[[Path], Any]) -> Callable[[Path], None]:
    return lambda root: change(sorted(root.glob(glob))[0])


def no_hdf5(path: Path) -> None:
    path.write_bytes(b"MATLAB 5.0")


def other_shapes(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["images"] = np.zeros((50, 8, 6), np.uint8)
        file["rawDepths"] = np.zeros((50, 8, 6), np.float32)


def beyond(path: Path) -> None:
    scipy.io.savemat(path, {"testNdxs": np.arange(45, 60), "trainNdxs": np.arange(1, 45)})


def other_names(path: Path) -> None:
    scipy.io.savemat(path, {"test": np.arange(1, 10)})


@pytest.mark.parametrize(
    ("name", "damage", "message"),
    [
        ("imagenet", lambda r: (r / "val" / "n00000001").mkdir(), "no class of ImageNet-1k"),
        ("imagenet", lambda r: (r / "val").rename(r / "test"), "has no val"),
        ("imagenet-flat", edit("LOC*", Path.unlink), "LOC_val_solution"),
        ("imagenet-flat", edit("LOC*", lambda p: p.write_text("a,n1 2\n")), "line 1"),
        ("imagenet-flat", edit("LOC*", lambda p: p.write_text("")), "has no ILSVRC2012_val"),
        (
            "imagenet-a",
            lambda r: (r / "imagenet-a" / WNIDS[0]).mkdir(),
            "n01440764, a class that imagenet-a lacks",
        ),
        ("ade20k", edit("*/annotations/validation", lambda p: p.rename(p / "../x")), "no folder"),
        ("ade20k", edit("*/annotations/validation/*", Path.unlink), "has no ADE_val_00000000.png"),
        ("nyuv2-mat", edit("splits.mat", Path.unlink), "put the official splits.mat beside"),
        ("nyuv2-mat", edit("splits.mat", no_hdf5), "has no testNdxs"),
        ("nyuv2-mat", edit("splits.mat", other_names), "has no testNdxs"),
        ("nyuv2-mat", edit("splits.mat", beyond), "beyond the 50"),
        ("nyuv2-mat", edit("nyu*", no_hdf5), "not the labelled HDF5"),
        ("nyuv2-mat", edit("nyu*", other_shapes), "do not fit"),
        ("nyuv2-folders", edit("test/*/sync*", Path.unlink), "has no sync_depth_00000.png"),
    ],
)
def test_a_malformed_folder_is_refused(
    tmp_path: Path, name: str, damage: Callable[[Path], Any], message: str
) -> None:
    config, write = LAYOUTS[name]
    write(tmp_path)
    damage(tmp_path)
    with pytest.raises(SourceError, match=message) as caught:
        source(config, tmp_path).select("test", 10)
    assert "\n" not in str(caught.value)


def rewrite(suffix: str) -> Callable[[Path], Any]:
    def change(path: Path) -> None:
        buffer = io.BytesIO()
        Image.fromarray(np.full((3, 3), 200, np.uint8)).save(buffer, suffix)
        path.write_bytes(buffer.getvalue())

    return change


@pytest.mark.parametrize(
    ("name", "damage", "message"),
    [
        ("imagenet", edit("val/*/*", lambda p: p.write_text("no image")), "not a whole image"),
        (
            "imagenet",
            edit("val/*/*", lambda p: p.write_bytes(p.read_bytes()[:-300])),
            "not a whole image",
        ),
        ("ade20k", edit("*/images/validation/*", lambda p: p.write_bytes(b"")), "not a whole"),
        ("ade20k", edit("*/annotations/validation/*", rewrite("PNG")), "not a mask"),
        ("nyuv2-folders", edit("test/*/sync*", rewrite("PNG")), "not whole millimetres"),
        ("nyuv2-folders", edit("test/*/rgb*", rewrite("JPEG")), "another size"),
    ],
)
def test_a_bad_file_costs_its_own_sample_alone(
    tmp_path: Path, name: str, damage: Callable[[Path], Any], message: str
) -> None:
    config, write = LAYOUTS[name]
    write(tmp_path)
    damage(tmp_path)
    bad: list[tuple[SourceSample, str]] = []
    for sample in source(config, tmp_path).select("test", 10 if name != "imagenet" else 60):
        try:
            sample.inputs["image"]
        except SampleError as error:
            bad.append((sample, str(error)))
    ((sample, reason),) = bad
    assert message in reason
    assert "\n" not in reason
    assert len(sample.sha256) == 64
