"""In the manner of VoiceBench's SD-QA: spoken questions about facts."""

from typing import ClassVar

from extraction.sources.toy_audio import Random, ToyAudio, Utterance
from extraction.sources.toy_audio_words import FACTS, FILLERS

__all__ = ["ToySdqa"]


class ToySdqa(ToyAudio):
    """Facts are what a model must have learnt; a few words before them are not to the point."""

    name: ClassVar[str] = "toy-sdqa"

    @classmethod
    def compose(cls, random: Random) -> Utterance:
        """See `ToyAudio.compose`."""
        fillers = [FILLERS[i] for i in random.permutation(len(FILLERS))[: random.randint(8)]]
        things = list(FACTS)
        thing = things[random.randint(len(things))]
        aspects = list(FACTS[thing])
        aspect = aspects[random.randint(len(aspects))]
        answer = FACTS[thing][aspect]
        words = (*fillers, "what", aspect, thing)
        return Utterance(words, f"the {aspect} of the {thing} is {answer}", {"answer": answer})
