"""Accuracy of an answer to a visual question, against ten people's answers."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from lamofcbench.scores.base import Answer, Figure, Numbers, Score, mean, required

__all__ = ["VqaAccuracy", "normalise_answer", "vqa_accuracy"]

_ARTICLES = frozenset({"a", "an", "the"})
_NUMBERS = {
    word: str(value)
    for value, word in enumerate(
        ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]
    )
} | {"none": "0"}


def normalise_answer(text: str) -> str:
    """Bring an answer into the form in which answers are compared.

    Lower case; punctuation removed (apostrophes, and marks between digits, without a gap; a
    decimal point stays); number words up to ten as digits; articles and repeated spaces removed.
    """
    text = text.lower().strip()
    text = re.sub(r"(?<=\d),(?=\d)", "", text)
    text = re.sub(r"['\u2019`]", "", text)
    text = re.sub(r"(?<!\d)\.|\.(?!\d)", "", text)
    text = re.sub(r"[^\w\s.]|_", " ", text)
    words = (_NUMBERS.get(word, word) for word in text.split())
    return " ".join(word for word in words if word not in _ARTICLES)


def vqa_accuracy(prediction: str, answers: Sequence[str]) -> float:
    """Score an answer: right if three annotators gave it, a third for each one below that.

    The metric and the normalisation follow Antol et al., "VQA: Visual Question Answering" (ICCV
    2015) and the evaluation described on visualqa.org. That evaluation also averages over the
    subsets of nine annotators and restores apostrophes in contractions; this one does neither.

    Args:
        prediction: the model's answer.
        answers: one answer per annotator, ten in VQAv2.

    Returns:
        min(number of annotators who gave this answer / 3, 1).
    """
    answer = normalise_answer(prediction)
    matches = sum(normalise_answer(other) == answer for other in answers)
    return min(matches / 3, 1.0)


class VqaAccuracy(Score):
    """Mean accuracy against ten annotators."""

    figures = (Figure("vqa_accuracy", mean),)

    def measure(
        self, answer: Answer, reference: Mapping[str, Any], context: Mapping[str, Any]
    ) -> Numbers:
        """See `Score.measure`."""
        wanted = required(reference, "answers")
        return {"vqa_accuracy": [vqa_accuracy(answer.prediction, wanted)]}

    def chance(self, references: Sequence[tuple[Mapping[str, Any], Mapping[str, Any]]]) -> float:
        """That of the one answer that scores best on all questions."""
        wanted = [required(reference, "answers") for reference, _ in references]
        fixed = {one for answers in wanted for one in answers}
        return max(
            sum(vqa_accuracy(one, answers) for answers in wanted) / len(wanted) for one in fixed
        )
