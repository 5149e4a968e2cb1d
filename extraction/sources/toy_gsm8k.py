"""In the manner of GSM8K: arithmetic in words, answered by a calculation and a last number."""

from typing import ClassVar

from extraction.sources.toy_text import Question, Random, ToyText

__all__ = ["ToyGsm8k"]

NAMES = ("tom", "ann", "ben", "eva", "max", "ida")
THINGS = ("apples", "coins", "books", "cards", "shells", "stamps")


class ToyGsm8k(ToyText):
    """One step of addition or subtraction, with numbers below thirty."""

    name: ClassVar[str] = "toy-gsm8k"

    @classmethod
    def compose(cls, random: Random) -> Question:
        """See `ToyText.compose`."""
        name, thing = NAMES[random.randint(len(NAMES))], THINGS[random.randint(len(THINGS))]
        first, second = random.randint(10, 20), random.randint(2, 10)
        if random.rand() < 0.5:
            event, sign, result = "gets", "+", first + second
        else:
            event, sign, result = "loses", "-", first - second
        return Question(
            prompt=f"{name} has {first} {thing} and {event} {second} . how many {thing} are left ?",
            prefix="",
            response=f"{first} {sign} {second} = {result}\n#### {result}",
            answer=str(result),
        )
