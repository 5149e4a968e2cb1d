"""Whether an answer contains the reference."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from lamofcbench.scores.base import Answer, Figure, Numbers, Score, mean, required

__all__ = ["Containment", "contains"]

_ARTICLES = frozenset({"a", "an", "the"})


def _words(text: str) -> list[str]:
    text = re.sub(r"['\u2019`]", "", text.lower())
    return [word for word in re.findall(r"[^\W_]+", text) if word not in _ARTICLES]


def contains(answer: str, reference: str) -> bool:
    """Whether the reference's words stand in the answer, in order and with nothing in between.

    Args:
        answer: the model's text.
        reference: a short answer; case, punctuation and articles don't matter.

    Raises:
        ValueError: the reference has no words.
    """
    wanted, found = _words(reference), _words(answer)
    if not wanted:
        raise ValueError(f"reference {reference!r} has no words")
    return any(found[i : i + len(wanted)] == wanted for i in range(len(found) - len(wanted) + 1))


class Containment(Score):
    """Share of answers that contain the reference. Damage can raise it: long answers hold more."""

    figures = (Figure("containment", mean),)

    def measure(
        self, answer: Answer, reference: Mapping[str, Any], context: Mapping[str, Any]
    ) -> Numbers:
        """See `Score.measure`."""
        return {"containment": [float(contains(answer.prediction, required(reference, "answer")))]}

    def chance(self, references: Sequence[tuple[Mapping[str, Any], Mapping[str, Any]]]) -> float:
        """That of always giving the reference which most references are contained in."""
        wanted = [str(required(reference, "answer")) for reference, _ in references]
        return max(sum(contains(fixed, one) for one in wanted) for fixed in set(wanted)) / len(
            wanted
        )
