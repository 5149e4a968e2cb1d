"""COCO captions with their images, from a local copy in the official layout.

``SOURCE`` names a folder that holds ``annotations/captions_<split>.json`` and, per split, a folder
of its images: ``val2017/`` and ``train2017/``.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from extraction.sources.base import Source, SourceSample, sha256_of
from lamofcbench.errors import SourceError
from lamofcbench.spec import ProfileSpec

__all__ = ["Coco"]


@dataclass(frozen=True)
class _Record:
    image_id: int
    path: Path
    caption: str


class _Lazy(Sequence[SourceSample]):
    """Samples whose images are read when they are indexed."""

    def __init__(self, records: Sequence[_Record]) -> None:
        self._records = records

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return _Lazy(self._records[index])
        return _sample(self._records[index])


class Coco(Source):
    """Photographs, each with one of the captions that people wrote for it.

    Inputs are ``prompt``, a text, and ``image``, the bytes of the image file: a file that is no
    image is then the model's to refuse, which costs that sample alone.
    """

    def __init__(self, profile: ProfileSpec, folder: Path | None = None) -> None:
        """Name the folder; it is read when samples are selected.

        Args:
            profile: the declaration; its source's ``split`` and ``calibration_split`` name the
                annotation files and the folders of images.
            folder: the local copy.

        Raises:
            SourceError: no folder was given, or it is none.
        """
        super().__init__(profile, folder)
        if folder is None:
            raise SourceError(
                "coco: needs a local copy: unpack annotations_trainval2017, val2017 and train2017 "
                "of https://cocodataset.org into one folder and give it as SOURCE"
            )
        if not folder.is_dir():
            raise SourceError(f"coco: {folder}: no such folder")
        self._folder = folder

    def select(self, split: str, count: int) -> Sequence[SourceSample]:
        """Choose the first ``count`` images of a split, in an order drawn once from the seed.

        Raises:
            SourceError: the annotations are missing or malformed, an image file is missing, or
                there are fewer images than that.
        """
        declared = self.profile.source
        name = {"test": declared.split, "calibration": declared.calibration_split}.get(split)
        if name is None:
            raise SourceError(f"coco: no split {split!r}; there are test and calibration")
        records = self._records(name)
        # RandomState, because NumPy keeps its streams the same in all versions to come.
        order = np.random.RandomState(declared.seed).permutation(len(records))
        if split == "calibration" and declared.split == declared.calibration_split:
            # From the other end, so that they meet only where there are too few images.
            order = order[::-1]
            available = len(order) - self.profile.samples.test
        else:
            available = len(order)
        if count > available:
            raise SourceError(
                f"coco: {self._folder}: {name} has {max(available, 0)} images with captions for "
                f"{split}, {count} were asked for"
            )
        chosen = [records[i] for i in order[:count]]
        for record in chosen:
            if not record.path.is_file():
                raise SourceError(f"coco: {record.path}: missing, though the annotations name it")
        return _Lazy(chosen)

    def _records(self, name: str) -> list[_Record]:
        """Read one annotation file: the images in ascending order, each with its first caption."""
        path = self._folder / "annotations" / f"captions_{name}.json"
        try:
            data = json.loads(path.read_text("utf-8"))
            files = {int(image["id"]): str(image["file_name"]) for image in data["images"]}
            captions: dict[int, tuple[int, str]] = {}
            for entry in data["annotations"]:
                image_id, found = int(entry["image_id"]), (int(entry["id"]), entry["caption"])
                if not isinstance(found[1], str):
                    raise TypeError(f"caption {found[0]} is no text")
                captions[image_id] = min(captions.get(image_id, found), found)
        except OSError as error:
            raise SourceError(f"coco: {path}: cannot be read: {error.strerror}") from error
        except (ValueError, TypeError, KeyError) as error:
            raise SourceError(
                f"coco: {path}: not COCO's captions: {type(error).__name__}: {error}"
            ) from error
        for file in files.values():
            if Path(file).name != file:
                raise SourceError(f"coco: {path}: file name {file!r} leads out of its folder")
        return [
            _Record(i, self._folder / name / files[i], " ".join(captions[i][1].split()))
            for i in sorted(files.keys() & captions.keys())
        ]


def _sample(record: _Record) -> SourceSample:
    try:
        data = record.path.read_bytes()
    except OSError as error:
        raise SourceError(f"coco: {record.path}: cannot be read: {error.strerror}") from error
    return SourceSample(
        id=f"coco-{record.image_id:012d}",
        inputs={"prompt": record.caption, "image": data},
        reference={"caption": record.caption},
        summary=f"{record.caption}; the edges of {record.path.name}",
        source_id=f"{record.path.parent.name}/{record.path.name}",
        sha256=sha256_of(data, record.caption),
    )
