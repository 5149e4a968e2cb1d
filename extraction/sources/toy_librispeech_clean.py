"""In the manner of LibriSpeech's clean test set: read words, to be transcribed."""

from typing import ClassVar

from extraction.sources.toy_audio import Random, ToyAudio, Utterance
from extraction.sources.toy_audio_words import READ

__all__ = ["ToyLibrispeechClean"]

INSTRUCTION = "transcribe :"


class ToyLibrispeechClean(ToyAudio):
    """Two to seven different words in any order."""

    name: ClassVar[str] = "toy-librispeech-clean"

    @classmethod
    def compose(cls, random: Random) -> Utterance:
        """See `ToyAudio.compose`."""
        chosen = random.permutation(len(READ))[: random.randint(2, 8)]
        words = tuple(READ[i] for i in chosen)
        text = " ".join(words)
        return Utterance(words, text, {"text": text}, prompt=INSTRUCTION)
