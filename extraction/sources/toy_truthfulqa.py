"""In the manner of TruthfulQA: which statement is the only true one."""

from typing import ClassVar

from extraction.sources.toy_text import NUMBERS, Question, Random, ToyText, lettered

__all__ = ["ToyTruthfulqa"]

RELATIONS = ("more than", "less than", "the same as")
SUBJECTS = (
    *("apples", "coins", "books", "cards", "shells", "stamps", "eggs", "keys", "pens", "nuts"),
    *("bells", "cups", "maps", "rings", "pins", "beans"),
)


class ToyTruthfulqa(ToyText):
    """Two numbers compared in three ways, of which one is true."""

    name: ClassVar[str] = "toy-truthfulqa"

    @classmethod
    def compose(cls, random: Random) -> Question:
        """See `ToyText.compose`."""
        gold = random.randint(len(RELATIONS))
        low, high = sorted(random.permutation(len(NUMBERS))[:2])
        one, other = ((high, low), (low, high), (low, low))[gold]
        thing = SUBJECTS[random.randint(len(SUBJECTS))]
        statements = [
            f"{NUMBERS[one]} {thing} are {relation} {NUMBERS[other]} {thing}"
            for relation in RELATIONS
        ]
        return lettered("which statement is true ?", statements, gold, RELATIONS[gold])
