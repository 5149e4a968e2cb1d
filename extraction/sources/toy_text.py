"""Generated questions in the manner of a published language data set, for miniatures.

The wording is a small vocabulary that a miniature can learn from scratch; every label is true by
construction. Which questions are held out, and in which split, follows from a hash of the question,
so no seed can bring a question that a miniature was trained on into an archive.
"""

import hashlib
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import numpy as np

from extraction.sources.base import Source, SourceSample, sha256_of
from extraction.sources.records import ASSISTANT_PREFIX, LETTERS, choice_prompt
from lamofcbench.errors import SourceError
from lamofcbench.spec import ProfileSpec

__all__ = ["NUMBERS", "Question", "ToyText", "lettered"]

Random = np.random.RandomState

NUMBERS = (
    *("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"),
    *("eleven", "twelve"),
)
PREAMBLES = (
    "it is a fine day .",
    "please read the whole text with care .",
    "there is no trick here .",
    "take your time .",
    "the next line holds the question , and the lines after it hold the choices .",
    "all of this was made up for a test .",
)
WORDS = (
    *("river", "stone", "cloud", "window", "garden", "winter", "summer", "morning", "evening"),
    *("letter", "story", "music", "bridge", "forest", "island", "market", "mountain", "shadow"),
    *("silver", "candle", "anchor", "arrow", "barrel", "blanket", "button", "camera", "canvas"),
    *("carpet", "castle", "circle", "corner", "cotton", "desert", "dinner", "dragon", "engine"),
    *("feather", "fence", "flower", "fountain", "glass", "hammock", "harbour", "helmet", "honey"),
    *("jacket", "jungle", "kitchen", "ladder", "lantern", "marble", "meadow", "mirror", "needle"),
    *("ocean", "orchard", "paper", "pencil", "pepper", "pillow", "pocket", "puzzle", "ribbon"),
)
"""Words of the notes, which no question is about."""
NOTED = 4
NOTES = 0.8
"""Share of the questions that a note comes before."""
LINES = ((0.5, (0, 1)), (0.42, (1, 4)), (0.08, (11, 15)))
"""How many preambles come before that: shares, and ranges within them."""
# Of 8 parts by hash, one is held out; of its 256 parts, by a second byte, these are the splits.
HELD_OUT_OF = 8
SPLIT_BYTES = {"test": range(0, 112), "calibration": range(112, 144), "train": range(144, 256)}
PATIENCE = 200_000


@dataclass(frozen=True)
class Question:
    """One generated question.

    Attributes:
        prompt: what is asked.
        prefix: how the assistant's turn begins.
        response: how it goes on, as a miniature is taught it.
        answer: the reference.
        before: lines that come before it in the user's turn.
        note: numbered words, on a line between those and the question, if any.
    """

    prompt: str
    prefix: str
    response: str
    answer: str
    before: tuple[str, ...] = ()
    note: tuple[str, ...] = ()

    @property
    def turn(self) -> str:
        """The user's whole turn."""
        return "\n".join([*self.before, self.again])

    @property
    def again(self) -> str:
        """The part of the turn that differs from question to question."""
        return "\n".join([*(["note : " + " ".join(self.note)] if self.note else ()), self.prompt])

    def reordered(self, random: Random) -> str:
        """The same part, with the words of the note in another order."""
        order = random.permutation(len(self.note))
        return replace(self, note=tuple(self.note[i] for i in order)).again

    @property
    def bucket(self) -> str:
        """``"training"`` if miniatures may be trained on it, else its split."""
        first, second = hashlib.sha256(self.prompt.encode()).digest()[:2]
        if first % HELD_OUT_OF:
            return "training"
        return next(split for split, parts in SPLIT_BYTES.items() if second in parts)


def lettered(question: str, choices: Sequence[str], gold: int, reason: str) -> Question:
    """A multiple-choice question; the response is the letter and then a word on why.

    Choices should stand in an order that follows from what is asked, so that the letter does:
    telling letters apart by what stands beside them is out of a miniature's reach.
    """
    return Question(
        prompt=choice_prompt(question, choices),
        prefix=ASSISTANT_PREFIX,
        response=f" {LETTERS[gold]}. {reason}",
        answer=LETTERS[gold],
    )


class ToyText(Source):
    """A stream of generated questions; a subclass composes one.

    Attributes:
        name: the config's data set, which prefixes ids.
    """

    name: ClassVar[str]

    def __init__(self, profile: ProfileSpec, folder: Path | None = None) -> None:
        """Take the seed from the profile.

        Raises:
            SourceError: a folder was given.
        """
        super().__init__(profile, folder)
        if folder is not None:
            raise SourceError(f"{self.name}: questions are generated; leave out SOURCE={folder}")

    @classmethod
    @abstractmethod
    def compose(cls, random: Random) -> Question:
        """Draw one question."""

    @classmethod
    def stream(cls, random: Random, bucket: str) -> Iterator[Question]:
        """Draw questions of one bucket, without end; most come with a few lines before them.

        Those lines, of random words, make lengths differ as they do between real prompts, and a
        model that repeats them has to look each word up.
        """
        while True:
            question = cls.compose(random)
            chances, counts = zip(*LINES, strict=True)
            count = random.randint(*counts[random.choice(len(counts), p=chances)])
            lines = [PREAMBLES[random.randint(len(PREAMBLES))] for _ in range(count)]
            noted = random.permutation(len(WORDS))[:NOTED]
            items = tuple(f"{place} {WORDS[i]}" for place, i in enumerate(noted, 1))
            note = items if random.rand() < NOTES else ()
            if question.bucket == bucket:
                yield replace(question, before=tuple(lines), note=note)

    def select(self, split: str, count: int) -> Sequence[SourceSample]:
        """Draw ``count`` different questions of a split; see `Source.select`."""
        if split not in SPLIT_BYTES:
            raise SourceError(f"{self.name}: no split {split!r}")
        random = Random([self.profile.source.seed, list(SPLIT_BYTES).index(split)])
        found: dict[str, SourceSample] = {}
        for tries, question in enumerate(self.stream(random, split)):
            if len(found) == count:
                break
            if tries == PATIENCE:
                raise SourceError(f"{self.name}: {split} has {len(found)} questions, not {count}")
            place = f"{split}-{len(found):04}"
            if (turn := question.turn) not in found:
                found[turn] = SourceSample(
                    id=f"{self.name}-{place}",
                    inputs={"prompt": turn, "prefix": question.prefix},
                    reference={"answer": question.answer},
                    summary=turn.replace("\n", " "),
                    source_id=place,
                    sha256=sha256_of(turn),
                )
        return list(found.values())
