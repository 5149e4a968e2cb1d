"""Handwritten digits with captions: pictures to draw again from their edges and their words."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from extraction.sources.base import Source, SourceSample, sha256_of
from extraction.sources.digits import Digits, load_images
from lamofcbench.optional import require
from lamofcbench.spec import ProfileSpec

__all__ = ["INKS", "SIZE", "TEMPLATES", "WORDS", "DigitsT2i", "caption", "picture"]

SIZE = 32
WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
INKS = {
    "white": (255, 255, 255),
    "red": (255, 70, 60),
    "green": (70, 230, 80),
    "blue": (90, 150, 255),
    "yellow": (255, 225, 60),
    "violet": (200, 110, 255),
}
"""Inks by name, RGB. Edges don't show them, so that only the caption can tell; all are bright
enough for the edges to be found on black."""
TEMPLATES = (
    "a handwritten {word} in {ink} ink",
    "the digit {word}, written in {ink}",
    "{ink} handwriting of the number {word}",
    "a {ink} {word} on a black ground",
)


def picture(image: NDArray[np.uint8], ink: str) -> NDArray[np.uint8]:
    """Enlarge a digit and colour it.

    Args:
        image: grey digit, uint8 [8, 8], ink bright.
        ink: a name of `INKS`.

    Returns:
        uint8 [32, 32, 3] on black.
    """
    pil = require("PIL.Image", "models")
    large = pil.fromarray(np.ascontiguousarray(image)).resize((SIZE, SIZE), pil.Resampling.BICUBIC)
    shade = np.asarray(large, np.float32)[..., None] / 255
    return np.rint(shade * np.float32(INKS[ink])).astype(np.uint8)


def caption(label: int, ink: str, template: int) -> str:
    """Describe a picture in the words of one of the `TEMPLATES`."""
    return TEMPLATES[template].format(word=WORDS[label], ink=ink)


class DigitsT2i(Source):
    """Held-out digits, each in one ink and with one caption that name and colour it.

    Inputs are ``prompt``, a text, and ``image``, uint8 [32, 32, 3].
    """

    def __init__(self, profile: ProfileSpec, folder: Path | None = None) -> None:
        """Order the held-out pool by the profile's seed.

        Args:
            profile: the declaration.
            folder: must be None: the images come with scikit-learn.

        Raises:
            SourceError: a folder was given.
            MissingDependencyError: scikit-learn is not installed.
        """
        super().__init__(profile, folder)
        self._digits = Digits(profile, folder)

    def select(self, split: str, count: int) -> Sequence[SourceSample]:
        """Choose the first ``count`` held-out digits of a split.

        Raises:
            SourceError: no such split, or it has fewer images.
        """
        return [self._sample(int(s.source_id)) for s in self._digits.select(split, count)]

    def _sample(self, index: int) -> SourceSample:
        images, labels = load_images()
        # Drawn from the digit alone, so that it looks the same in whatever split or order it comes.
        random = np.random.RandomState([self.profile.source.seed, index])
        ink = tuple(INKS)[random.randint(len(INKS))]
        prompt = caption(int(labels[index]), ink, random.randint(len(TEMPLATES)))
        image = picture(images[index], ink)
        inputs: dict[str, Any] = {"prompt": prompt, "image": image}
        return SourceSample(
            id=f"digits-{index:04d}",
            inputs=inputs,
            reference={"caption": prompt},
            summary=f"{prompt}; its edges, {SIZE} x {SIZE} pixels",
            source_id=str(index),
            sha256=sha256_of(image.tobytes(), prompt),
        )
