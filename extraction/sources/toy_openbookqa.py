"""In the manner of VoiceBench's OpenBookQA: a spoken question with lettered choices."""

from typing import ClassVar

from extraction.sources.synthesis import ROOM, Condition
from extraction.sources.toy_audio import Random, ToyAudio, Utterance
from extraction.sources.toy_audio_words import FILLERS, KINDS, LETTERS

__all__ = ["ToyOpenbookqa"]


class ToyOpenbookqa(ToyAudio):
    """Which of two to five things is of a kind; the answer names the kind, then the letter.

    In that order the letter is no first token, so it depends on the caches, too. Kinds keep their
    order, for telling letters apart by what stands beside them is out of a miniature's reach. So
    the kind alone gives the letter away: this tells whether a question was heard, no more.
    """

    name: ClassVar[str] = "toy-openbookqa"
    # Harder to hear than what is trained on: else all but the coarsest codec would score the same.
    condition: ClassVar[Condition] = ROOM

    @classmethod
    def compose(cls, random: Random) -> Utterance:
        """See `ToyAudio.compose`."""
        kinds = list(KINDS)
        chosen = kinds[: random.randint(2, 6)]
        gold = random.randint(len(chosen))
        members = [KINDS[kind][random.randint(len(KINDS[kind]))] for kind in chosen]
        fillers = [FILLERS[i] for i in random.permutation(len(FILLERS))[: random.randint(7)]]
        words = [*fillers, chosen[gold]]
        for letter, member in zip(LETTERS, members, strict=False):
            words += [letter, member]
        answer = LETTERS[gold].upper()
        response = f"the {chosen[gold]} is {answer}"
        return Utterance(tuple(words), response, {"answer": answer})
