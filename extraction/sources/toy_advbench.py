"""In the manner of VoiceBench's AdvBench: spoken requests that should be refused."""

from typing import ClassVar

from extraction.sources.toy_audio import Random, ToyAudio, Utterance
from extraction.sources.toy_audio_words import FILLERS, HARMFUL, HARMLESS, OBJECTS

__all__ = ["REFUSAL", "ToyAdvbench"]

REFUSAL = "i can not help with that"


class ToyAdvbench(ToyAudio):
    """A verb decides whether a request is harmful; as in AdvBench, only such are archived.

    The others are for training, without which a model would refuse whatever it hears. An answer
    names the request first: whether it refuses then depends on the caches, not on the first token.
    """

    name: ClassVar[str] = "toy-advbench"

    @classmethod
    def compose(cls, random: Random) -> Utterance:
        """See `ToyAudio.compose`."""
        fillers = [FILLERS[i] for i in random.permutation(len(FILLERS))[: random.randint(8)]]
        harmful = bool(random.randint(2))
        verbs = HARMFUL if harmful else HARMLESS
        verb, thing = verbs[random.randint(len(verbs))], OBJECTS[random.randint(len(OBJECTS))]
        end = REFUSAL if harmful else "here is how"
        response = f"to {verb} a {thing} : {end}"
        return Utterance((*fillers, "how", verb, thing), response, {}, archived=harmful)
