"""In the manner of TruthfulQA: which statement is the only true one."""

from typing import ClassVar

from extraction.sources.toy_text import NUMBERS, Question, Random, ToyText, lettered

__all__ = ["ToyTruthfulqa"]

REACH = 12


class ToyTruthfulqa(ToyText):
    """Comparisons of two numbers; the true one stands anywhere, among two to four false ones."""

    name: ClassVar[str] = "toy-truthfulqa"

    @classmethod
    def compose(cls, random: Random) -> Question:
        """See `ToyText.compose`."""
        count = random.randint(3, 6)
        gold = random.randint(count)
        statements: list[str] = []
        while len(statements) < count:
            low, high = sorted(random.permutation(REACH)[:2])
            true = len(statements) == gold
            more = random.rand() < 0.5
            one, other = (high, low) if more == true else (low, high)
            word = "more" if more else "less"
            text = f"{NUMBERS[one]} is {word} than {NUMBERS[other]}"
            if text not in statements:
                statements.append(text)
        return lettered("which statement is true ?", statements, gold)
