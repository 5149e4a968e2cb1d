"""Whether an answer contains the reference."""

import re

__all__ = ["contains"]

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
