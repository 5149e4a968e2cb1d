"""Open questions about grids of real handwritten digits, composed from scikit-learn's data.

A grid has one to four rows and one to six columns. A cell is 16 pixels a side, which is one image
token of the miniature. Answers are spelt out, so that each is several tokens long.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits

from extraction.sources.base import Source, SourceSample, sha256_of
from extraction.sources.digits import partition
from lamofcbench.errors import SourceError
from lamofcbench.spec import SPLITS, ProfileSpec

__all__ = [
    "CELL",
    "MAX_COLUMNS",
    "MAX_ROWS",
    "WORDS",
    "DigitsVqa",
    "Glyphs",
    "Puzzle",
    "compose",
    "kind_of",
    "pools",
    "question_only_answers",
]

MAX_ROWS = 4
MAX_COLUMNS = 6
CELL = 16
"""Side of a cell, in pixels."""
WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_SCALE = CELL // 8
_ANNOTATORS = 10
_TRIES = 100

_TEMPLATES: dict[str, tuple[str, ...]] = {
    "cell": (
        "row {row} column {column}?",
        "which digit is in row {row} column {column}?",
        "please look at the picture: what is in row {row} column {column}?",
    ),
    "first": ("first digit?", "what is the first digit of the whole grid?"),
    "last": ("last digit?", "what is the last digit of the whole grid?"),
    "top right": ("top right?", "which digit is in the top right corner?"),
    "bottom left": ("bottom left?", "which digit is in the bottom left corner?"),
    "rows": ("how many rows?", "how many rows of digits does the picture show?"),
    "columns": ("how many columns?", "how many columns of digits does the picture show?"),
}
_SHARES = {"cell": 0.5}
"""Share of a kind among the questions; the others divide the rest evenly."""


@dataclass(frozen=True)
class Glyphs:
    """Digits that images may be composed of.

    Attributes:
        pixels: [n, 8, 8] uint8, 0 (paper) to 255 (ink).
        labels: [n], 0 to 9.
        index: [n], which record of ``load_digits()`` each one is.
    """

    pixels: np.ndarray
    labels: np.ndarray
    index: np.ndarray


@dataclass(frozen=True)
class Puzzle:
    """An image, a question about it, and the answer.

    Attributes:
        image: [rows * 16, columns * 16, 3] uint8.
        question: lower-case text.
        answer: a number word.
        kind: which kind of question it is.
        labels: [rows, columns], the digits shown.
        glyphs: [rows, columns], the records of ``load_digits()`` shown.
    """

    image: np.ndarray
    question: str
    answer: str
    kind: str
    labels: np.ndarray
    glyphs: np.ndarray


def pools(seed: int = 0) -> dict[str, Glyphs]:
    """Digits for each split: three sets without a common record.

    Held-out digits are divided, within each class, between calibration (a quarter) and test.

    Args:
        seed: draws the partition into training and held-out digits.
    """
    data = load_digits()
    train, held = partition(seed)
    quarter = np.zeros(len(held), bool)
    for label in range(10):
        quarter[np.flatnonzero(data.target[held] == label)[::4]] = True
    parts = {"calibration": held[quarter], "test": held[~quarter], "train": train}
    pixels = np.round(data.images * (255 / 16)).astype(np.uint8)
    return {name: Glyphs(pixels[i], data.target[i], i) for name, i in parts.items()}


def compose(
    rng: np.random.Generator, glyphs: Glyphs, shape: tuple[int, int] | None = None
) -> Puzzle:
    """Draw one image and one question about it.

    Args:
        rng: where the choices come from.
        glyphs: the digits to choose from.
        shape: rows and columns; drawn if not given.
    """
    rows, columns = shape or (
        int(rng.integers(1, MAX_ROWS + 1)),
        int(rng.integers(1, MAX_COLUMNS + 1)),
    )
    chosen = rng.integers(0, len(glyphs.index), (rows, columns))
    labels = glyphs.labels[chosen]
    tiles = glyphs.pixels[chosen].transpose(0, 2, 1, 3).reshape(rows * 8, columns * 8)
    grey = tiles.repeat(_SCALE, 0).repeat(_SCALE, 1)
    kinds = list(_TEMPLATES)
    rest = (1 - sum(_SHARES.values())) / (len(kinds) - len(_SHARES))
    kind = kinds[rng.choice(len(kinds), p=[_SHARES.get(k, rest) for k in kinds])]
    row, column = int(rng.integers(rows)), int(rng.integers(columns))
    answer = {
        "cell": labels[row, column],
        "first": labels[0, 0],
        "last": labels[-1, -1],
        "top right": labels[0, -1],
        "bottom left": labels[-1, 0],
        "rows": rows,
        "columns": columns,
    }[kind]
    wordings = _TEMPLATES[kind]
    # The short wording half of the time: prompts differ in length, and stay short on average.
    wording = wordings[0] if rng.random() < 0.5 else wordings[rng.integers(len(wordings))]
    question = wording.format(row=row + 1, column=column + 1)
    return Puzzle(
        image=np.ascontiguousarray(np.broadcast_to(grey[..., None], (*grey.shape, 3))),
        question=question,
        answer=WORDS[answer],
        kind=kind,
        labels=labels,
        glyphs=glyphs.index[chosen],
    )


def kind_of(question: str) -> str:
    """Kind of a question, by its wording.

    Raises:
        SourceError: it is worded like no question of this source.
    """
    skeleton = re.sub(r"\d+", "#", question)
    for kind, wordings in _TEMPLATES.items():
        if any(skeleton == text.format(row="#", column="#") for text in wordings):
            return kind
    raise SourceError(f"no kind of question is worded {question!r}")


def question_only_answers(train: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Answers of a baseline that never sees the image: the most frequent one of each kind.

    Args:
        train: pairs of question and answer.

    Returns:
        An answer per kind; ties go to the answer that comes first in the alphabet.
    """
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for question, answer in train:
        counts[kind_of(question)][answer] += 1
    return {kind: min(c, key=lambda a: (-c[a], a)) for kind, c in counts.items()}


class DigitsVqa(Source):
    """Questions about grids of digits; test and calibration show held-out digits only."""

    def __init__(self, profile: ProfileSpec, folder: Path | None = None) -> None:
        """Load the digits; ``folder`` is not used, since they come with scikit-learn."""
        super().__init__(profile, folder)
        self._pools = pools()

    def select(self, split: str, count: int) -> Sequence[SourceSample]:
        """Compose ``count`` samples; see `Source.select`. No image and question occur twice."""
        if split not in SPLITS:
            raise SourceError(f"digits_vqa has no split {split!r}, only {', '.join(SPLITS)}")
        seen: set[str] = set()
        return [self._sample(split, i, seen) for i in range(count)]

    def _sample(self, split: str, index: int, seen: set[str]) -> SourceSample:
        # A generator per sample, not one for all, so that a longer selection starts with the
        # shorter one and no choice made for one sample moves another.
        seed = (self.profile.source.seed, SPLITS.index(split), index)
        rng = np.random.default_rng(seed)
        for _ in range(_TRIES):
            puzzle = compose(rng, self._pools[split])
            digest = sha256_of(repr(puzzle.image.shape), puzzle.image.tobytes(), puzzle.question)
            if digest not in seen:
                seen.add(digest)
                break
        else:
            raise SourceError(f"digits_vqa {split}: no new question after {_TRIES} draws")
        rows, columns = puzzle.labels.shape
        return SourceSample(
            id=f"digits-{split}-{index:05d}",
            inputs={"image": puzzle.image, "question": puzzle.question},
            reference={"answers": [puzzle.answer] * _ANNOTATORS},
            summary=f"{rows}x{columns} digits: {puzzle.question}",
            source_id="load_digits:" + ",".join(str(g) for g in puzzle.glyphs.flat),
            sha256=digest,
        )
