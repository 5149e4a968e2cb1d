"""Held-out digits by split, for sources that compose images of them."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from extraction.sources.digits import Digits, load_images
from lamofcbench.errors import SourceError
from lamofcbench.spec import SPLITS, ProfileSpec

__all__ = ["held_out_pool", "random_of", "refuse_folder", "resized"]


def held_out_pool(profile: ProfileSpec, split: str) -> NDArray[np.int64]:
    """Indices of the held-out digits of one split; those of two splits never meet.

    Raises:
        SourceError: no such split.
    """
    if split not in SPLITS:
        raise SourceError(f"{profile.source.name}: no split {split!r}; there are {SPLITS}")
    return Digits(profile).indices(split)


def random_of(profile: ProfileSpec, split: str, position: int) -> np.random.RandomState:
    """Random numbers of one sample: its own, so that no other sample's count changes them."""
    # RandomState, because its streams never change with NumPy's version.
    return np.random.RandomState([profile.source.seed, SPLITS.index(split), position])


def refuse_folder(name: str, folder: Path | None) -> None:
    """Refuse a local copy of what is made here.

    Raises:
        SourceError: there is one.
    """
    if folder is not None:
        raise SourceError(f"{name}: images come with scikit-learn; leave out the folder {folder}")


def resized(index: int, side: int) -> NDArray[np.float64]:
    """Enlarge one digit.

    Returns:
        Ink of 0..1, float64 [side, side].
    """
    image = Image.fromarray(load_images()[0][index])
    return np.asarray(image.resize((side, side), Image.Resampling.BICUBIC), np.float64) / 255
