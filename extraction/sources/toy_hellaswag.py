"""In the manner of HellaSwag: which of four endings follows."""

from typing import ClassVar

from extraction.sources.toy_text import NUMBERS, Question, Random, ToyText, lettered

__all__ = ["ToyHellaswag"]

SHOWN = 3
ASKED = 2


def _run(start: int, step: int, count: int) -> str:
    return " ".join(NUMBERS[start + step * i] for i in range(count))


class ToyHellaswag(ToyText):
    """Counting up or down, by one or by two."""

    name: ClassVar[str] = "toy-hellaswag"

    @classmethod
    def compose(cls, random: Random) -> Question:
        """See `ToyText.compose`."""
        step = (1, -1, 2, -2)[random.randint(4)]
        reach = step * (SHOWN + ASKED - 1)
        start = random.randint(max(0, -reach), len(NUMBERS) - max(0, reach))
        right = _run(start + step * SHOWN, step, ASKED)
        endings = {right}
        while len(endings) < 4:
            first, second = random.randint(0, len(NUMBERS), 2)
            endings.add(f"{NUMBERS[first]} {NUMBERS[second]}")
        choices = sorted(endings)
        random.shuffle(choices)
        question = f"someone counts : {_run(start, step, SHOWN)}\nwhich ending follows ?"
        return lettered(question, choices, choices.index(right))
