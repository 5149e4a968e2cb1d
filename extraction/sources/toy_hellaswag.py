"""In the manner of HellaSwag: which of four endings follows."""

from typing import ClassVar

from extraction.sources.toy_text import NUMBERS, Question, Random, ToyText, lettered

__all__ = ["ToyHellaswag"]

PEOPLE = (
    *("someone", "a child", "a teacher", "a sailor", "a baker", "a nurse", "a farmer"),
    *("a judge", "a piper"),
)
PLACES = (
    *("aloud", "in a hall", "on a ship", "at home", "in the rain", "at work", "in a tent"),
    *("at school", "on a bus"),
)
RING = NUMBERS[:8]
SHOWN = 3
ASKED = 2
STEPS = {"up by one": 1, "down by one": -1, "up by two": 2, "down by two": -2}


def _run(start: int, step: int, count: int) -> str:
    return " ".join(RING[(start + step * i) % len(RING)] for i in range(count))


class ToyHellaswag(ToyText):
    """Counting in one of four ways; the endings are what each way would give, in that order."""

    name: ClassVar[str] = "toy-hellaswag"

    @classmethod
    def compose(cls, random: Random) -> Question:
        """See `ToyText.compose`."""
        ways = list(STEPS)
        gold, start = random.randint(len(ways)), random.randint(len(RING))
        step = STEPS[ways[gold]]
        last = start + step * (SHOWN - 1)
        endings = [_run(last + way, way, ASKED) for way in STEPS.values()]
        person = PEOPLE[random.randint(len(PEOPLE))]
        place = PLACES[random.randint(len(PLACES))]
        shown = _run(start, step, SHOWN)
        question = f"{person} counts {place} : {shown}\nwhich ending follows ?"
        return lettered(question, endings, gold, ways[gold])
