"""Exact match of what is read out of generated text: a letter, or the last number."""

from abc import abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from lamofcbench.scores.answers import last_number, letter
from lamofcbench.scores.base import Answer, Figure, Numbers, Score, mean, required

__all__ = ["ExactLetter", "ExactNumber"]


class _ExactMatch(Score):
    """Share of answers whose extract equals the reference; one that has none is wrong."""

    figures = (Figure("exact_match", mean),)

    @staticmethod
    @abstractmethod
    def extract(text: str) -> str | None:
        """Read the answer out of a text; None if there is none in it."""

    def measure(
        self, answer: Answer, reference: Mapping[str, Any], context: Mapping[str, Any]
    ) -> Numbers:
        """See `Score.measure`."""
        right = self.extract(answer.prediction) == required(reference, "answer")
        return {"exact_match": [float(right)]}

    def chance(self, references: Sequence[tuple[Mapping[str, Any], Mapping[str, Any]]]) -> float:
        """Share of the commonest answer."""
        counts = Counter(required(reference, "answer") for reference, _ in references)
        return counts.most_common(1)[0][1] / len(references)


class ExactLetter(_ExactMatch):
    """Letters of choices."""

    @staticmethod
    def extract(text: str) -> str | None:
        """See `letter`."""
        return letter(text)


class ExactNumber(_ExactMatch):
    """Last numbers."""

    @staticmethod
    def extract(text: str) -> str | None:
        """See `last_number`."""
        return last_number(text)
