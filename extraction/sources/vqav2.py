"""VQAv2: open questions about COCO photographs, each answered by ten people."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from extraction.sources.base import Source, SourceSample, sha256_of
from extraction.sources.images import LazySamples, Refused, decoded, need_folder
from lamofcbench.errors import SampleError, SourceError

__all__ = ["VqaV2"]

LAYOUT = (
    "v2_OpenEnded_mscoco_val2014_questions.json, v2_mscoco_val2014_annotations.json and "
    "val2014/COCO_val2014_*.jpg, and the same of train2014"
)
NAMES = {"validation": "val2014", "train": "train2014"}


@dataclass(frozen=True)
class _Record:
    question_id: int
    question: str
    answers: list[str]
    image: Path


class VqaV2(Source):
    """One question per image; validation for test, train for calibration."""

    def select(self, split: str, count: int) -> Sequence[SourceSample]:
        """Choose the first ``count`` questions of a split, in an order drawn from the seed.

        Raises:
            SourceError: the files are missing or malformed, or hold fewer images.
        """
        folder = need_folder("vqav2", self.folder, LAYOUT)
        spec = self.profile.source
        wanted = {"test": spec.split, "calibration": spec.calibration_split}.get(split)
        if wanted not in NAMES:
            raise SourceError(f"vqav2: no split {split!r}; there are test and calibration")
        records = _records(folder, NAMES[wanted])
        order = np.random.RandomState(spec.seed).permutation(len(records))
        chosen: dict[Path, _Record] = {}
        for number in order:
            if len(chosen) == count:
                break
            chosen.setdefault(records[number].image, records[number])
        if len(chosen) < count:
            raise SourceError(
                f"vqav2: {NAMES[wanted]} has questions on {len(chosen)} images, "
                f"{count} were asked for"
            )
        return LazySamples(list(chosen.values()), _sample)


def _load(path: Path, name: str) -> list[Mapping[str, Any]]:
    try:
        entries = json.loads(path.read_text("utf-8"))[name]
    except OSError:
        raise SourceError(f"vqav2: {path} is not there; needs {LAYOUT}") from None
    except (ValueError, KeyError, TypeError) as error:
        raise SourceError(f"vqav2: {path}: holds no {name}: {error}") from None
    if not isinstance(entries, list):
        raise SourceError(f"vqav2: {path}: {name} is no list")
    return entries


def _records(folder: Path, name: str) -> list[_Record]:
    """Questions with their answers, in ascending order of their ids."""
    questions = _load(folder / f"v2_OpenEnded_mscoco_{name}_questions.json", "questions")
    annotations = _load(folder / f"v2_mscoco_{name}_annotations.json", "annotations")
    try:
        answers = {
            int(entry["question_id"]): [str(a["answer"]) for a in entry["answers"]]
            for entry in annotations
        }
        records = [
            _Record(
                int(entry["question_id"]),
                str(entry["question"]),
                answers[int(entry["question_id"])],
                folder / name / f"COCO_{name}_{int(entry['image_id']):012d}.jpg",
            )
            for entry in questions
        ]
    except (KeyError, TypeError, ValueError) as error:
        raise SourceError(
            f"vqav2: {folder}: {name} is malformed: {type(error).__name__} {error}"
        ) from None
    return sorted(records, key=lambda record: record.question_id)


def _sample(record: _Record) -> SourceSample:
    inputs: Mapping[str, Any]
    data = b""
    try:
        data = record.image.read_bytes()
        inputs = {"image": decoded(data, record.image.name), "question": record.question}
    except OSError as error:
        inputs = Refused(f"{record.image.name}: cannot be read: {error.strerror}")
    except SampleError as error:
        inputs = Refused(str(error))
    return SourceSample(
        id=f"vqav2-{record.question_id}",
        inputs=inputs,
        reference={"answers": record.answers},
        summary=f"{record.image.name}: {record.question}",
        source_id=str(record.question_id),
        sha256=sha256_of(data, record.question),
    )
