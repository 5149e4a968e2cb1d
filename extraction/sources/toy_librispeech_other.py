"""In the manner of LibriSpeech's other test set: the same as clean, harder to hear."""

from typing import ClassVar

from extraction.sources.synthesis import OTHER, Condition
from extraction.sources.toy_librispeech_clean import ToyLibrispeechClean

__all__ = ["ToyLibrispeechOther"]


class ToyLibrispeechOther(ToyLibrispeechClean):
    """More noise, more varied speed and speakers."""

    name: ClassVar[str] = "toy-librispeech-other"
    condition: ClassVar[Condition] = OTHER
    taught: ClassVar[Condition] = OTHER
