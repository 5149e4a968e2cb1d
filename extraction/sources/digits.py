"""scikit-learn's handwritten digits: 1797 real images of 8 x 8, which need no download."""

import functools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from extraction.sources.base import Source, SourceSample, sha256_of
from lamofcbench.errors import SourceError
from lamofcbench.optional import require
from lamofcbench.spec import ProfileSpec

__all__ = ["HELD_OUT", "SPLIT_SIZES", "Digits", "load_images", "partition"]

SPLIT_SIZES = {"test": 100, "calibration": 32, "train": 256}
"""Images per split, in the order in which they are cut from the held-out pool. Test comes first
because whole rounds over the ten classes balance it exactly."""
HELD_OUT = sum(SPLIT_SIZES.values())


@functools.cache
def load_images() -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Load all digits.

    Returns:
        Grey images, uint8 [1797, 8, 8], their ink of 0..16 scaled to 0..255; and labels,
        int64 [1797].

    Raises:
        MissingDependencyError: scikit-learn is not installed.
    """
    data = require("sklearn.datasets", "models").load_digits()
    images = np.rint(data.images * (255 / 16)).astype(np.uint8)
    labels = data.target.astype(np.int64)
    # Both are cached and shared by every caller.
    images.setflags(write=False)
    labels.setflags(write=False)
    return images, labels


def _in_rounds(indices: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    """Order images so that each run of ten has one of every class, until classes run out."""
    # RandomState, because NumPy freezes its streams for good and Generator's only until it is
    # improved: the partition must outlive NumPy versions, or trained images would be tested on.
    random = np.random.RandomState(seed)
    labels = load_images()[1][indices]
    rank = np.empty(len(indices), np.int64)
    for label in range(10):
        members = np.flatnonzero(labels == label)
        rank[members] = random.permutation(len(members))
    return indices[np.lexsort((random.random_sample(len(indices)), rank))]


def partition(seed: int = 0) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Part the digits into those that miniatures train on and those that archives are made of.

    Args:
        seed: draws the partition. The bundled miniatures were trained on that of seed 0.

    Returns:
        Training indices, int64 [1409], ascending; and held-out indices, int64 [388], balanced by
        class, in an order in which every prefix is balanced too.
    """
    everything = np.arange(len(load_images()[1]))
    held_out = _in_rounds(everything, seed)[:HELD_OUT]
    return np.setdiff1d(everything, held_out), held_out


class Digits(Source):
    """Held-out digits as samples: an image, uint8 [8, 8], and its label."""

    def __init__(self, profile: ProfileSpec, folder: Path | None = None) -> None:
        """Order the held-out pool by the profile's seed; the pool itself never changes.

        Args:
            profile: the declaration.
            folder: must be None: the images come with scikit-learn.

        Raises:
            SourceError: a folder was given.
            MissingDependencyError: scikit-learn is not installed.
        """
        super().__init__(profile, folder)
        if folder is not None:
            raise SourceError(
                f"digits: the images come with scikit-learn; leave out the folder {folder}"
            )
        # The pool is that of the bundled weights whatever the profile's seed, so that no seed can
        # bring images into an archive that the miniature has trained on.
        order = _in_rounds(np.sort(partition()[1]), profile.source.seed)
        stops = np.cumsum(list(SPLIT_SIZES.values()))
        self._splits = dict(zip(SPLIT_SIZES, np.split(order, stops[:-1]), strict=True))

    def select(self, split: str, count: int) -> Sequence[SourceSample]:
        """Choose the first ``count`` held-out digits of a split.

        Raises:
            SourceError: no such split, or it has fewer images.
        """
        indices = self.indices(split)
        if count > len(indices):
            raise SourceError(
                f"digits: split {split!r} has {len(indices)} images, {count} were asked for"
            )
        return [self._sample(int(index)) for index in indices[:count]]

    def indices(self, split: str) -> NDArray[np.int64]:
        """Indices of all held-out digits of a split, in its order.

        Raises:
            SourceError: no such split.
        """
        if split not in self._splits:
            raise SourceError(f"digits: no split {split!r}; there are {', '.join(SPLIT_SIZES)}")
        return self._splits[split]

    @staticmethod
    def _sample(index: int) -> SourceSample:
        images, labels = load_images()
        image, label = images[index].copy(), int(labels[index])
        return SourceSample(
            id=f"digits-{index:04d}",
            inputs={"image": image},
            reference={"label": label},
            summary=f"a handwritten {label}, 8 x 8 pixels",
            source_id=str(index),
            sha256=sha256_of(image.tobytes()),
        )
