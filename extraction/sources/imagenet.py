"""ImageNet-1k: ``train`` and ``val`` in a folder per class, or ``val`` flat with its solution."""

import csv
import re
from collections.abc import Mapping
from pathlib import Path

from extraction.sources.images import image_files, need_folder
from extraction.sources.wnid_folders import Files, WnidSource, class_folders, class_numbers
from lamofcbench.errors import SourceError

__all__ = ["ImageNet"]

SOLUTION = "LOC_val_solution.csv"
LAYOUT = f"train/<wnid>/*.JPEG and val/<wnid>/*.JPEG, or val/*.JPEG and {SOLUTION}"


class ImageNet(WnidSource):
    """Validation images as test samples; calibration from ``train``.

    The folder may be that of the official archives, or Kaggle's, with the images in
    ``ILSVRC/Data/CLS-LOC``.
    """

    def classes(self, split: str) -> Mapping[str, Files]:
        """Find the images of a split by WordNet id.

        Raises:
            SourceError: they are not there.
        """
        folder = need_folder("imagenet", self.folder, LAYOUT)
        names = ("val", "validation") if split == "test" else ("train",)
        for root in (folder, folder / "ILSVRC" / "Data" / "CLS-LOC"):
            for name in names:
                if (root / name).is_dir():
                    return self._below(root / name, folder, split)
        raise SourceError(f"imagenet: {folder} has no {names[0]}; needs {LAYOUT}")

    def _below(self, root: Path, folder: Path, split: str) -> Mapping[str, Files]:
        files = image_files(root) if split == "test" else []
        if not files:
            return class_folders("imagenet", root)
        solution = _solution(folder / SOLUTION)
        classes: dict[str, Files] = {}
        for file in files:
            if (wnid := solution.get(file.stem)) is None:
                raise SourceError(f"imagenet: {SOLUTION} has no {file.stem}")
            listed = classes.setdefault(wnid, [])
            if isinstance(listed, list):
                listed.append(file)
        return classes


def _solution(path: Path) -> dict[str, str]:
    """Read the class of every validation image."""
    if not path.is_file():
        raise SourceError(f"imagenet: val is flat, so {path} is needed, from Kaggle's archive")
    found = {}
    with path.open(newline="", encoding="utf-8") as file:
        for line, row in enumerate(csv.reader(file), 1):
            if line == 1 and row[:1] == ["ImageId"]:
                continue
            wnid = row[1].split(" ")[0] if len(row) == 2 else ""
            if not re.fullmatch(r"n\d{8}", wnid) or wnid not in class_numbers():
                raise SourceError(f"{path}: line {line} gives no class of ImageNet-1k")
            found[row[0]] = wnid
    return found
