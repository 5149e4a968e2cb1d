"""ADE20K's scene parsing benchmark, in the layout of ``ADEChallengeData2016``."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from extraction.sources.base import Source, SourceSample, sha256_of
from extraction.sources.images import LazySamples, Refused, decoded, image_files, need_folder
from lamofcbench.errors import SampleError, SourceError
from lamofcbench.spec import CALIBRATION_SAMPLES

__all__ = ["CLASSES", "Ade20k"]

CLASSES = 150
FOLDERS = {"test": "validation", "calibration": "training", "train": "training"}
LAYOUT = "images/{training,validation}/*.jpg and annotations/{training,validation}/*.png"


class Ade20k(Source):
    """Validation images as test samples, calibration from ``training``; masks as stored."""

    def select(self, split: str, count: int) -> Sequence[SourceSample]:
        """Choose the first ``count`` images of a split, in an order drawn from the seed.

        Raises:
            SourceError: the folders are not there, lack an annotation, or have fewer images.
        """
        folder = need_folder("ade20k", self.folder, LAYOUT)
        inner = folder / "ADEChallengeData2016"
        root = inner if inner.is_dir() else folder
        if (name := FOLDERS.get(split)) is None:
            raise SourceError(f"ade20k: no split {split!r}; there are {', '.join(FOLDERS)}")
        images, masks = root / "images" / name, root / "annotations" / name
        for needed in (images, masks):
            if not needed.is_dir():
                raise SourceError(f"ade20k: no folder {needed}; needs {LAYOUT}")
        files = image_files(images)
        order = np.random.RandomState(self.profile.source.seed).permutation(len(files))
        first = CALIBRATION_SAMPLES if split == "train" else 0
        if first + count > len(files):
            raise SourceError(
                f"ade20k: {len(files)} images in {images}, {first + count} are needed"
            )
        chosen = [files[i] for i in order[first : first + count]]
        for file in chosen:
            if not (masks / f"{file.stem}.png").is_file():
                raise SourceError(f"ade20k: {masks} has no {file.stem}.png")
        return LazySamples([(file, masks / f"{file.stem}.png") for file in chosen], _sample)


def _sample(record: tuple[Path, Path]) -> SourceSample:
    image_path, mask_path = record
    data, labels = image_path.read_bytes(), mask_path.read_bytes()
    mask = np.zeros((1, 1), np.uint8)
    try:
        image = decoded(data, image_path.name)
        mask = decoded(labels, mask_path.name, "")
        if mask.dtype != np.uint8 or mask.ndim != 2 or mask.max() > CLASSES:
            raise SampleError(f"{mask_path.name}: not a mask of classes 0 to {CLASSES}")
        if mask.shape != image.shape[:2]:
            raise SampleError(
                f"{mask_path.name}: {list(mask.shape)} for an image of {list(image.shape[:2])}"
            )
        inputs: Mapping[str, object] = {"image": image}
    except SampleError as error:
        inputs = Refused(str(error))
    return SourceSample(
        id=image_path.stem,
        inputs=inputs,  # type: ignore[arg-type]
        reference={"mask": mask.ravel()},
        summary=f"a scene, {mask.shape[0]} x {mask.shape[1]} pixels",
        source_id=image_path.name,
        sha256=sha256_of(data, labels),
    )
