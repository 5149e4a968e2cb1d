import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from extraction.sources.coco import Coco
from lamofcbench.errors import SampleError, SourceError
from lamofcbench.models.control import Edges
from lamofcbench.spec import load_scenario

PROFILE = load_scenario("canny-t2i").profile("full")


def jpeg(seed: int) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (48, 64, 3), np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG")
    return stream.getvalue()


def write(folder: Path, split: str, count: int) -> None:
    (folder / "annotations").mkdir(parents=True, exist_ok=True)
    (folder / split).mkdir()
    images, annotations = [], []
    for i in range(count):
        name = f"{i:012d}.jpg"
        (folder / split / name).write_bytes(jpeg(i))
        images.append({"id": i, "file_name": name, "height": 48, "width": 64, "license": 1})
        for j in (2, 0, 1):
            annotations.append({"id": 10 * i + j, "image_id": i, "caption": f"{split} {i}.{j} \n"})
    write_annotations(folder, split, {"images": images, "annotations": annotations})


def write_annotations(folder: Path, split: str, data: Any) -> None:
    (folder / "annotations" / f"captions_{split}.json").write_text(json.dumps(data), "utf-8")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(tmp_path, "val2017", 12)
    write(tmp_path, "train2017", 6)
    return tmp_path


def test_a_sample_is_an_image_with_its_first_caption(folder: Path) -> None:
    for sample in Coco(PROFILE, folder).select("test", 12):
        number = int(sample.id.removeprefix("coco-"))
        assert sample.inputs == {"prompt": f"val2017 {number}.0", "image": jpeg(number)}
        assert sample.reference == {"caption": f"val2017 {number}.0"}
        assert sample.source_id == f"val2017/{number:012d}.jpg"
        assert len(sample.sha256) == 64


def test_calibration_comes_from_the_train_split(folder: Path) -> None:
    samples = Coco(PROFILE, folder).select("calibration", 6)
    assert all(sample.source_id.startswith("train2017/") for sample in samples)


def test_a_smaller_count_is_a_prefix_and_the_seed_orders(folder: Path) -> None:
    whole = [sample.id for sample in Coco(PROFILE, folder).select("test", 12)]
    assert [sample.id for sample in Coco(PROFILE, folder).select("test", 5)] == whole[:5]
    assert len(set(whole)) == 12
    other = PROFILE.source.model_copy(update={"seed": 1})
    source = Coco(PROFILE.model_copy(update={"source": other}), folder)
    assert [sample.id for sample in source.select("test", 12)] != whole


def test_one_split_for_both_is_parted(folder: Path) -> None:
    same = PROFILE.source.model_copy(update={"calibration_split": "val2017"})
    samples = PROFILE.samples.model_copy(update={"test": 8, "calibration": 4})
    profile = PROFILE.model_copy(update={"source": same, "samples": samples})
    source = Coco(profile, folder)
    test, calibration = (
        {s.id for s in source.select(split, n)} for split, n in (("test", 8), ("calibration", 4))
    )
    assert not test & calibration
    with pytest.raises(SourceError, match="has 4 images"):
        source.select("calibration", 5)


def test_images_give_edges(folder: Path) -> None:
    sample = Coco(PROFILE, folder).select("test", 1)[0]
    edges = Edges(128, 50, 150)(sample.inputs["image"])
    assert edges.shape == (128, 128)
    assert edges.any()


def test_a_file_that_is_no_image_costs_its_sample_alone(folder: Path) -> None:
    for path in (folder / "val2017").iterdir():
        path.write_bytes(b"not an image")
    sample = Coco(PROFILE, folder).select("test", 12)[3]
    with pytest.raises(SampleError, match=r"^image: cannot be decoded[^\n]*$"):
        Edges(128, 50, 150)(sample.inputs["image"])


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda f: (f / "annotations/captions_val2017.json").unlink(), "cannot be read"),
        (lambda f: (f / "annotations/captions_val2017.json").write_text("{"), "not COCO's"),
        (lambda f: write_annotations(f, "val2017", []), "not COCO's"),
        (lambda f: write_annotations(f, "val2017", {"images": []}), "not COCO's.*annotations"),
        (
            lambda f: write_annotations(
                f, "val2017", {"images": [{"id": 1, "file_name": "../x.jpg"}], "annotations": []}
            ),
            "leads out",
        ),
        (
            lambda f: write_annotations(
                f,
                "val2017",
                {"images": [], "annotations": [{"id": 1, "image_id": 1, "caption": None}]},
            ),
            "no text",
        ),
        (lambda f: [p.unlink() for p in (f / "val2017").iterdir()], "missing, though"),
    ],
)
def test_a_malformed_folder_is_refused(
    folder: Path, damage: Callable[[Path], Any], says: str
) -> None:
    damage(folder)
    with pytest.raises(SourceError, match=says) as caught:
        Coco(PROFILE, folder).select("test", 12)
    assert "\n" not in str(caught.value)


def test_what_is_not_there_is_refused(folder: Path) -> None:
    with pytest.raises(SourceError, match="SOURCE"):
        Coco(PROFILE)
    with pytest.raises(SourceError, match="no such folder"):
        Coco(PROFILE, folder / "nothing")
    with pytest.raises(SourceError, match="has 12 images"):
        Coco(PROFILE, folder).select("test", 13)
    with pytest.raises(SourceError, match="no split 'train'"):
        Coco(PROFILE, folder).select("train", 1)
