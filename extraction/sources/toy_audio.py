"""Generated speech in the manner of a published audio data set, for miniatures.

Words are synthesised; every label is true by construction. Which utterances are held out, and in
which split, follows from a hash of their words, so no seed can bring words that a miniature was
trained on into an archive; recordings are synthesised from other seeds, too.
"""

import hashlib
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from extraction.sources.base import Source, SourceSample, sha256_of
from extraction.sources.synthesis import CLEAN, Condition, speak
from extraction.sources.toy_audio_words import VOCABULARY
from extraction.sources.toy_text import HELD_OUT_OF, PATIENCE, SPLIT_BYTES
from lamofcbench.errors import SourceError
from lamofcbench.spec import ProfileSpec

__all__ = ["ToyAudio", "Utterance"]

Random = np.random.RandomState


@dataclass(frozen=True)
class Utterance:
    """One thing that is said.

    Attributes:
        words: as spoken.
        response: the answer, as a miniature is taught it.
        reference: a value per declared reference column.
        prompt: text that goes before the audio.
        archived: whether it may come into an archive, rather than into training alone.
    """

    words: tuple[str, ...]
    response: str
    reference: dict[str, str]
    prompt: str = ""
    archived: bool = True

    @property
    def bucket(self) -> str:
        """``"training"`` if miniatures may be trained on it, else its split."""
        first, second = hashlib.sha256(" ".join(self.words).encode()).digest()[:2]
        if first % HELD_OUT_OF:
            return "training"
        return next(split for split, parts in SPLIT_BYTES.items() if second in parts)


class ToyAudio(Source):
    """A stream of generated utterances; a subclass composes one.

    Attributes:
        name: the config's data set, which prefixes ids.
        condition: how it is recorded.
        taught: how what a miniature is trained on is recorded.
    """

    name: ClassVar[str]
    condition: ClassVar[Condition] = CLEAN
    taught: ClassVar[Condition] = CLEAN

    def __init__(self, profile: ProfileSpec, folder: Path | None = None) -> None:
        """Take the seed from the profile.

        Raises:
            SourceError: a folder was given.
        """
        super().__init__(profile, folder)
        if folder is not None:
            raise SourceError(f"{self.name}: speech is generated; leave out SOURCE={folder}")

    @classmethod
    @abstractmethod
    def compose(cls, random: Random) -> Utterance:
        """Draw one utterance."""

    @classmethod
    def stream(cls, random: Random, bucket: str) -> Iterator[Utterance]:
        """Draw utterances of one bucket, without end."""
        while True:
            utterance = cls.compose(random)
            if utterance.bucket == bucket:
                yield utterance

    @classmethod
    def record(
        cls, utterance: Utterance, random: Random, condition: Condition | None = None
    ) -> tuple[np.ndarray, list[tuple[int, int]]]:
        """Synthesise an utterance under this data set's conditions, or others; see `speak`."""
        return speak(utterance.words, VOCABULARY, condition or cls.condition, random)

    def select(self, split: str, count: int) -> Sequence[SourceSample]:
        """Draw ``count`` different utterances of a split; see `Source.select`."""
        if split not in SPLIT_BYTES:
            raise SourceError(f"{self.name}: no split {split!r}")
        seeds = [self.profile.source.seed, list(SPLIT_BYTES).index(split)]
        found: dict[tuple[str, ...], SourceSample] = {}
        for tries, utterance in enumerate(self.stream(Random(seeds), split)):
            if len(found) == count:
                break
            if tries == PATIENCE:
                raise SourceError(f"{self.name}: {split} has {len(found)} utterances, not {count}")
            if utterance.archived and utterance.words not in found:
                voice = Random([*seeds, len(found)])
                found[utterance.words] = self._sample(utterance, f"{split}-{len(found):04}", voice)
        return list(found.values())

    def _sample(self, utterance: Utterance, place: str, voice: Random) -> SourceSample:
        audio, _ = self.record(utterance, voice)
        return SourceSample(
            id=f"{self.name}-{place}",
            inputs={"audio": audio, "prompt": utterance.prompt},
            reference=dict(utterance.reference),
            summary=" ".join(utterance.words),
            source_id=place,
            sha256=sha256_of(audio.astype("<f4").tobytes(), utterance.prompt),
        )
