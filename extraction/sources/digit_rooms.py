"""Rooms with handwritten digits on boards, with the true depth of every pixel.

A pinhole camera stands in a room with a floor, a ceiling and a back wall. Boards stand on the
floor. What gives depth away is what does in photographs: where things touch the floor, how large
they look, and that what is far is dim.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from extraction.sources.base import Source, SourceSample, sha256_of
from extraction.sources.digit_pools import held_out_pool, random_of, refuse_folder, resized
from lamofcbench.errors import SourceError
from lamofcbench.spec import ProfileSpec

__all__ = ["SIZE", "DigitRooms", "compose"]

SIZE = (60, 80)
"""Height and width in pixels."""
FOCAL = 60.0
"""Focal length in pixels."""


def compose(
    random: np.random.RandomState, pool: NDArray[np.int64]
) -> tuple[NDArray[np.uint8], NDArray[np.float32], list[int]]:
    """Draw one room.

    Args:
        random: what it is drawn with.
        pool: the digits that may stand in it.

    Returns:
        The image, uint8 [60, 80, 3]; depth in metres, float32 [60, 80], 0.5 to 9.5; and the digits
        used.
    """
    height, width = SIZE
    horizon = height * random.uniform(0.38, 0.52)
    eye, room = random.uniform(1.1, 1.7), random.uniform(2.4, 3.2)
    wall = random.uniform(3.5, 9.5)
    rows = np.arange(height)[:, None] + 0.5 - horizon
    columns = np.arange(width)[None, :] + 0.5 - width / 2
    # Along a row of the floor (or ceiling) depth is the same: height over the row's slope.
    over = np.where(rows > 0, eye, room - eye)
    plane = over * FOCAL / np.maximum(np.abs(rows), 1e-6)
    depth = np.broadcast_to(np.minimum(plane, wall), SIZE).copy()
    colours = random.uniform(0.35, 0.95, (3, 3))
    on_wall = np.broadcast_to(plane >= wall, SIZE)
    below = np.broadcast_to(rows > 0, SIZE)
    image = np.where(
        on_wall[..., None], colours[0], np.where(below[..., None], colours[1], colours[2])
    )
    # Tiles of half a metre on the floor.
    across = np.floor(columns * depth / FOCAL / 0.5) + np.floor(depth / 0.5)
    image = image * np.where(below & ~on_wall & (across % 2 == 0), 0.8, 1.0)[..., None]
    used = []
    boards = sorted(random.uniform(1.5, wall - 0.3, random.randint(1, 5)), reverse=True)
    for away in boards:
        side = max(int(random.uniform(0.7, 1.2) * FOCAL / away), 4)
        foot = int(horizon + eye * FOCAL / away)
        left = random.randint(-side // 2, width - side // 2)
        index = int(random.choice(pool))
        ink = np.clip(resized(index, side), 0, 1)[..., None]
        paper, pen = random.uniform(0.6, 1.0, 3), random.uniform(0.0, 0.3, 3)
        top = foot - side
        rows_seen = slice(max(top, 0), min(foot, height))
        columns_seen = slice(max(left, 0), min(left + side, width))
        board = (paper + (pen - paper) * ink)[
            rows_seen.start - top : max(rows_seen.stop - top, 0),
            columns_seen.start - left : max(columns_seen.stop - left, 0),
        ]
        if not board.size:
            continue
        image[rows_seen, columns_seen] = board
        depth[rows_seen, columns_seen] = away
        used.append(index)
    dimmed = image * np.exp(-depth / 7)[..., None] + random.normal(0, 0.015, (*SIZE, 1))
    pixels = np.rint(np.clip(dimmed, 0, 1) * 255).astype(np.uint8)
    return pixels, depth.astype(np.float32), used


class DigitRooms(Source):
    """Rooms of 60 x 80 pixels; see `compose`."""

    def __init__(self, profile: ProfileSpec, folder: Path | None = None) -> None:
        """Take no folder: the digits come with scikit-learn.

        Raises:
            SourceError: a folder was given.
        """
        super().__init__(profile, folder)
        refuse_folder("digit_rooms", folder)

    def select(self, split: str, count: int) -> Sequence[SourceSample]:
        """Draw the first ``count`` rooms of a split, of its own digits alone.

        Raises:
            SourceError: no such split.
        """
        pool = held_out_pool(self.profile, split)
        if count < 0:
            raise SourceError(f"digit_rooms: {count} rooms were asked for")
        return [self._sample(split, position, pool) for position in range(count)]

    def _sample(self, split: str, position: int, pool: NDArray[np.int64]) -> SourceSample:
        image, depth, used = compose(random_of(self.profile, split, position), pool)
        return SourceSample(
            id=f"room-{split}-{position:04d}",
            inputs={"image": image},
            reference={"depth": depth.ravel()},
            summary=f"a room of {depth.max():.1f} m with {len(used)} digits on boards",
            source_id=" ".join(map(str, used)),
            sha256=sha256_of(image.tobytes(), depth.tobytes()),
        )
