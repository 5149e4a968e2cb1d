"""VQAv2 in its official layout, written small by the test."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from extraction.sources.vqav2 import VqaV2
from lamofcbench.errors import SampleError, SourceError
from lamofcbench.spec import load_scenario

PROFILE = load_scenario("vqa-mllm").profile("full")


def write(folder: Path, images: int = 6) -> Path:
    for name in ("val2014", "train2014"):
        (folder / name).mkdir(parents=True)
        questions: list[dict[str, Any]] = []
        annotations: list[dict[str, Any]] = []
        for i in range(images):
            pixels = np.full((20 + i, 30, 3), 10 * i, np.uint8)
            Image.fromarray(pixels).save(folder / name / f"COCO_{name}_{i:012d}.jpg")
            for k in range(2):
                number = (1000 if name == "val2014" else 2000) + 10 * i + k
                questions.append(
                    {"question_id": number, "image_id": i, "question": f"what is {i}{k}?"}
                )
                answers = [{"answer": "yes"}] * 7 + [{"answer": "no"}] * 3
                annotations.append({"question_id": number, "answers": answers})
        files = {
            f"v2_OpenEnded_mscoco_{name}_questions.json": {"questions": questions},
            f"v2_mscoco_{name}_annotations.json": {"annotations": annotations},
        }
        for file, content in files.items():
            (folder / file).write_text(json.dumps(content), "utf-8")
    return folder


def test_the_official_layout_is_read(tmp_path: Path) -> None:
    source = VqaV2(PROFILE, write(tmp_path / "vqa"))
    test, calibration = source.select("test", 5), source.select("calibration", 4)
    ids = [sample.id for sample in test]
    assert ids == [sample.id for sample in source.select("test", 6)][:5]
    assert len({sample.summary.split(":")[0] for sample in test}) == 5
    assert not set(ids) & {sample.id for sample in calibration}
    sample = test[0]
    assert sample.inputs["image"].dtype == np.uint8
    assert sample.inputs["image"].shape[1:] == (30, 3)
    assert sample.inputs["question"].startswith("what is ")
    assert sample.reference == {"answers": ["yes"] * 7 + ["no"] * 3}


def test_a_bad_image_costs_its_sample_alone(tmp_path: Path) -> None:
    folder = write(tmp_path / "vqa")
    for path in (folder / "val2014").iterdir():
        path.write_text("no image")
    sample = VqaV2(PROFILE, folder).select("test", 1)[0]
    with pytest.raises(SampleError, match="not a whole image"):
        sample.inputs["image"]


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("v2_OpenEnded_mscoco_val2014_questions.json", "no json", "holds no questions"),
        ("v2_OpenEnded_mscoco_val2014_questions.json", '{"questions": [{}]}', "malformed"),
        ("v2_mscoco_val2014_annotations.json", '{"annotations": []}', "malformed"),
        ("v2_mscoco_val2014_annotations.json", None, "is not there; needs"),
    ],
)
def test_a_malformed_folder_is_refused(
    tmp_path: Path, name: str, content: str | None, says: str
) -> None:
    folder = write(tmp_path / "vqa")
    if content is None:
        (folder / name).unlink()
    else:
        (folder / name).write_text(content, "utf-8")
    with pytest.raises(SourceError, match=says) as caught:
        VqaV2(PROFILE, folder).select("test", 2)
    assert "\n" not in str(caught.value)


def test_what_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="needs SOURCE="):
        VqaV2(PROFILE).select("test", 1)
    with pytest.raises(SourceError, match="questions on 6 images, 7 were asked for"):
        VqaV2(PROFILE, write(tmp_path / "vqa")).select("test", 7)
