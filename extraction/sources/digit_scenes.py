"""Scenes of several handwritten digits on a textured ground, with the class of every pixel."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from extraction.sources.base import Source, SourceSample, sha256_of
from extraction.sources.digit_pools import held_out_pool, random_of, refuse_folder, resized
from extraction.sources.digits import load_images
from lamofcbench.errors import SourceError
from lamofcbench.spec import ProfileSpec

__all__ = ["CLASSES", "DigitScenes", "compose"]

CLASSES = 11
"""The ground, and ten digits."""
SHORT_SIDES = (48, 80)
MAX_ASPECT = 3.3
INK = 0.4


def _texture(random: np.random.RandomState, height: int, width: int) -> NDArray[np.float64]:
    """Draw a coloured ground of soft blotches and grain, [height, width, 3] of 0..1."""
    coarse = random.random_sample((height // 8 + 2, width // 8 + 2)) * 255
    blotches = Image.fromarray(coarse.astype(np.uint8)).resize(
        (width, height), Image.Resampling.BICUBIC
    )
    soft = np.asarray(blotches, np.float64)[..., None] / 255
    first, second = random.random_sample((2, 3))
    grain = random.normal(0, 0.04, (height, width, 1))
    return np.clip(first + (second - first) * soft + grain, 0, 1)


def compose(
    random: np.random.RandomState, pool: NDArray[np.int64], height: int, width: int
) -> tuple[NDArray[np.uint8], NDArray[np.uint8], list[int]]:
    """Draw one scene.

    Args:
        random: what it is drawn with.
        pool: the digits that may stand in it.
        height: in pixels.
        width: in pixels.

    Returns:
        The image, uint8 [height, width, 3]; the mask, uint8 [height, width], 1 for the ground and
        2 + d for digit d (0, which says unlabelled, does not occur); and the digits used.
    """
    images = _texture(random, height, width)
    mask = np.ones((height, width), np.uint8)
    labels = load_images()[1]
    used = []
    # Digits are as large as a fixed part of the short side, so that they look alike once it is
    # resized, and each keeps to a cell of its own.
    cell = min(height, width) / 2.1
    for row in range(int(height / cell)):
        for column in range(int(width / cell)):
            if random.random_sample() < 0.3:
                continue
            side = int(cell * random.uniform(0.75, 0.98))
            top = int(row * cell + random.uniform(0, cell - side))
            left = int(column * cell + random.uniform(0, cell - side))
            index = int(random.choice(pool))
            ink = np.clip(resized(index, side), 0, 1)
            window = slice(top, top + side), slice(left, left + side)
            below = images[window].mean((0, 1))
            # Always some contrast, in either direction.
            colour = np.where(below < 0.5, below + 0.45, below - 0.45)
            colour = np.clip(colour + random.uniform(-0.15, 0.15, 3), 0, 1)
            images[window] += (colour - images[window]) * ink[..., None]
            mask[window][ink > INK] = 2 + labels[index]
            used.append(index)
    return np.rint(np.clip(images, 0, 1) * 255).astype(np.uint8), mask, used


class DigitScenes(Source):
    """Scenes of one to five crops by aspect ratio, upright or lying; see `compose`."""

    def __init__(self, profile: ProfileSpec, folder: Path | None = None) -> None:
        """Take no folder: the digits come with scikit-learn.

        Raises:
            SourceError: a folder was given.
        """
        super().__init__(profile, folder)
        refuse_folder("digit_scenes", folder)

    def select(self, split: str, count: int) -> Sequence[SourceSample]:
        """Draw the first ``count`` scenes of a split, of its own digits alone.

        Raises:
            SourceError: no such split.
        """
        pool = held_out_pool(self.profile, split)
        if count < 0:
            raise SourceError(f"digit_scenes: {count} scenes were asked for")
        return [self._sample(split, position, pool) for position in range(count)]

    def _sample(self, split: str, position: int, pool: NDArray[np.int64]) -> SourceSample:
        random = random_of(self.profile, split, position)
        short = random.randint(SHORT_SIDES[0], SHORT_SIDES[1] + 1)
        sides = [short, int(short * MAX_ASPECT ** random.random_sample())]
        if random.random_sample() < 0.3:
            sides.reverse()
        image, mask, used = compose(random, pool, *sides)
        return SourceSample(
            id=f"scene-{split}-{position:04d}",
            inputs={"image": image},
            reference={"mask": mask.ravel()},
            summary=f"{len(used)} handwritten digits, {sides[0]} x {sides[1]} pixels",
            source_id=" ".join(map(str, used)),
            sha256=sha256_of(image.tobytes(), mask.tobytes()),
        )
