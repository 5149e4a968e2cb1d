"""Data sets of 200 of ImageNet-1k's classes, with one split: ImageNet-A and ImageNet-R."""

from collections.abc import Mapping
from typing import ClassVar

from extraction.sources.images import need_folder
from extraction.sources.wnid_folders import Files, WnidSource, class_folders, class_numbers
from lamofcbench.errors import SourceError
from lamofcbench.spec import CALIBRATION_SAMPLES

__all__ = ["ImageNetSubset"]


class ImageNetSubset(WnidSource):
    """Labels are numbered among all 1000 classes; the score is among these 200.

    There is no train split. Calibration takes the first images in the seeded order, test the
    following ones, so that neither depends on how many of the other are taken.

    Attributes:
        name: the source's, for messages.
        folder_name: of the official archive.
        numbers: of the classes that there are.
    """

    name: ClassVar[str]
    folder_name: ClassVar[str]
    numbers: ClassVar[tuple[int, ...]]

    def offset(self, split: str) -> int:
        """How many images to pass over: those of calibration."""
        return CALIBRATION_SAMPLES if split == "test" else 0

    def classes(self, split: str) -> Mapping[str, Files]:
        """Find all images by WordNet id.

        Raises:
            SourceError: they are not there, the split is ``train``, or a class is not of this set.
        """
        if split == "train":
            raise SourceError(f"{self.name}: has no train split")
        layout = "200 folders <wnid>/*.jpg"
        folder = need_folder(self.name, self.folder, layout)
        inner = folder / self.folder_name
        found = class_folders(self.name, inner if inner.is_dir() else folder)
        known = class_numbers()
        if foreign := sorted(wnid for wnid in found if known[wnid] not in self.numbers):
            raise SourceError(
                f"{self.name}: {folder} has {foreign[0]}, a class that {self.folder_name} lacks: "
                "it is of another data set"
            )
        return found
