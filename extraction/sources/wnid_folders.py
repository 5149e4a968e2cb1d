"""Images in a folder per class, named by WordNet ids, as ImageNet and its kin have them."""

import functools
import re
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from extraction.sources.base import Source, SourceSample, sha256_of
from extraction.sources.images import LazySamples, Refused, decoded, image_files
from lamofcbench.errors import SampleError, SourceError
from lamofcbench.spec import CALIBRATION_SAMPLES

__all__ = ["WnidSource", "class_folders", "class_numbers"]

Files = Path | list[Path]
"""The images of a class: a folder of them, listed when needed, or the files themselves."""


@functools.cache
def class_numbers() -> dict[str, int]:
    """Numbers 0..999 of ImageNet-1k's classes by WordNet id; they are numbered by these, sorted."""
    text = Path(__file__).with_name("imagenet_wnids.txt").read_text("utf-8")
    return {wnid: number for number, wnid in enumerate(text.split())}


def class_folders(name: str, root: Path) -> dict[str, Files]:
    """Find the folders of classes below one.

    Raises:
        SourceError: there are none, or one is of no class of ImageNet-1k.
    """
    folders = sorted(p for p in root.iterdir() if p.is_dir() and re.fullmatch(r"n\d{8}", p.name))
    if not folders:
        raise SourceError(f"{name}: {root} has no folders named by WordNet ids, such as n01440764")
    for folder in folders:
        if folder.name not in class_numbers():
            raise SourceError(f"{name}: {folder} is of no class of ImageNet-1k")
    return {folder.name: folder for folder in folders}


class WnidSource(Source):
    """Images by class: in rounds, each with one image of every class, in a seeded order."""

    @abstractmethod
    def classes(self, split: str) -> Mapping[str, Files]:
        """Find the images of a split by WordNet id.

        Raises:
            SourceError: they are not there.
        """

    def offset(self, split: str) -> int:
        """How many images to pass over, because another split takes them."""
        return CALIBRATION_SAMPLES if split == "train" else 0

    def select(self, split: str, count: int) -> Sequence[SourceSample]:
        """Choose the first ``count`` images of a split.

        Raises:
            SourceError: the split is not there, or has fewer images.
        """
        classes = self.classes(split)
        seed = self.profile.source.seed
        order = np.random.RandomState(seed).permutation(sorted(classes))
        orders: dict[str, list[Path]] = {}
        chosen: list[tuple[str, Path]] = []
        wanted, taken = self.offset(split) + count, -1
        for turn in range(wanted):
            if len(chosen) in (taken, wanted):
                break
            taken = len(chosen)
            for wnid in order:
                if len(chosen) == wanted:
                    break  # before the next folder is listed: a train split has a thousand
                if wnid not in orders:
                    found = classes[wnid]
                    files = image_files(found) if isinstance(found, Path) else sorted(found)
                    random = np.random.RandomState([seed, class_numbers()[wnid]])
                    orders[wnid] = [files[i] for i in random.permutation(len(files))]
                if turn < len(orders[wnid]):
                    chosen.append((str(wnid), orders[wnid][turn]))
        if len(chosen) < wanted:
            raise SourceError(
                f"{self.profile.source.name}: {len(chosen)} images for split {split!r}, "
                f"{wanted} are needed"
            )
        return LazySamples(chosen[self.offset(split) :], self._sample)

    def _sample(self, record: tuple[str, Path]) -> SourceSample:
        wnid, path = record
        data = path.read_bytes()
        try:
            inputs: Mapping[str, object] = {"image": decoded(data, path.name)}
        except SampleError as error:
            inputs = Refused(str(error))
        return SourceSample(
            id=f"{wnid}-{path.stem}",
            inputs=inputs,  # type: ignore[arg-type]
            reference={"label": class_numbers()[wnid]},
            summary=f"an image of class {wnid}",
            source_id=f"{wnid}/{path.name}",
            sha256=sha256_of(data),
        )
