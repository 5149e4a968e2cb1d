"""Handwritten digits made hard, and rendered in other styles; of some of the classes only.

They stand to the plain digits as ImageNet-A and ImageNet-R do to ImageNet: the same model answers,
among all its classes, on images unlike those that it has learned from.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from extraction.sources.base import Source, SourceSample, sha256_of
from extraction.sources.digit_pools import held_out_pool, random_of, refuse_folder, resized
from extraction.sources.digits import load_images
from lamofcbench.errors import SourceError
from lamofcbench.scores.classes import TINY
from lamofcbench.spec import ProfileSpec

__all__ = ["SIDE", "DigitVariants", "hard", "rendition"]

SIDE = 32
RENDITIONS = ("outlined", "coloured", "textured", "stencilled")
MOST_VARIANTS = 4
"""Of one digit in one split."""

Pixels = NDArray[np.float64]


def _finished(image: Pixels) -> NDArray[np.uint8]:
    return np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8)


def hard(random: np.random.RandomState, index: int) -> tuple[NDArray[np.uint8], str]:
    """Draw a digit turned, dim, noisy and partly covered.

    Returns:
        The image, uint8 [32, 32, 3], and what was done.
    """
    turn = random.uniform(8, 20) * random.choice([-1, 1])
    ink = Image.fromarray(_finished(resized(index, SIDE))).rotate(turn, Image.Resampling.BILINEAR)
    image = np.asarray(ink, np.float64) / 255
    contrast, lift = random.uniform(0.5, 0.9), random.uniform(0, 0.15)
    image = image * contrast + lift + random.normal(0, 0.06, image.shape)
    width = random.randint(3, 6)
    at = random.randint(4, SIDE - 4 - width)
    cover = [slice(None), slice(at, at + width)]
    image[tuple(cover[:: random.choice([-1, 1])])] = random.uniform(0, contrast)
    return _finished(np.repeat(image[..., None], 3, 2)), f"turned by {turn:.0f} degrees and covered"


def rendition(random: np.random.RandomState, index: int) -> tuple[NDArray[np.uint8], str]:
    """Draw a digit in another style: outlined, coloured, textured or stencilled.

    Returns:
        The image, uint8 [32, 32, 3], and the style.
    """
    ink = np.clip(resized(index, SIDE), 0, 1)
    style = str(random.choice(RENDITIONS))
    if style == "outlined":
        edges = np.hypot(*np.gradient(ink))
        drawn = 0.3 * ink + edges / max(edges.max(), 1e-6)
        return _finished(np.repeat(drawn[..., None], 3, 2)), style
    if style == "stencilled":
        cut = (ink > random.uniform(0.35, 0.6)) * random.uniform(0.5, 1)
        return _finished(np.repeat(cut[..., None], 3, 2)), style
    pen = random.uniform(0.5, 1, 3)
    paper = random.uniform(0, 0.35, 3)
    if style == "textured":
        stripes = np.sin(np.arange(SIDE) * random.uniform(0.5, 1.5) + random.uniform(0, 6))
        ground = np.broadcast_to(0.2 + 0.2 * stripes, (SIDE, SIDE))
        paper = (ground if random.random_sample() < 0.5 else ground.T)[..., None] * np.ones(3)
    return _finished(paper + (pen - paper) * ink[..., None]), style


class DigitVariants(Source):
    """Variants of held-out digits of six classes, uint8 [32, 32, 3].

    The declaration's source id ends in ``#hard`` or ``#renditions``, which says what they are.
    """

    def __init__(self, profile: ProfileSpec, folder: Path | None = None) -> None:
        """Take no folder: the digits come with scikit-learn.

        Raises:
            SourceError: a folder was given, or the declaration names no kind.
        """
        super().__init__(profile, folder)
        refuse_folder("digit_variants", folder)
        kind = profile.source.id.rpartition("#")[2]
        if kind not in ("hard", "renditions"):
            raise SourceError(f"digit_variants: id {profile.source.id}: needs #hard or #renditions")
        self._kind = kind

    def select(self, split: str, count: int) -> Sequence[SourceSample]:
        """Draw the first ``count`` variants of a split: every digit once, then every one again.

        Raises:
            SourceError: no such split, or it has fewer.
        """
        pool = held_out_pool(self.profile, split)
        pool = pool[np.isin(load_images()[1][pool], TINY)]
        if not 0 <= count <= MOST_VARIANTS * len(pool):
            raise SourceError(
                f"digit_variants: split {split!r} has {MOST_VARIANTS * len(pool)} images, "
                f"{count} were asked for"
            )
        return [self._sample(split, i, int(pool[i % len(pool)])) for i in range(count)]

    def _sample(self, split: str, position: int, index: int) -> SourceSample:
        draw = hard if self._kind == "hard" else rendition
        image, what = draw(random_of(self.profile, split, position), index)
        label = int(load_images()[1][index])
        return SourceSample(
            id=f"{self._kind}-{split}-{position:04d}",
            inputs={"image": image},
            reference={"label": label},
            summary=f"a handwritten {label}, {what}, {SIDE} x {SIDE} pixels",
            source_id=str(index),
            sha256=sha256_of(image.tobytes()),
        )
