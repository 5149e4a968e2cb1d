"""Agreement with the uncoded model, token by token, on its own continuation.

The first token and the later ones stand apart: the first sees the split layer's output alone, the
later ones read the decoded caches or states, which a letter score hardly notices.
"""

from collections.abc import Sequence
from typing import ClassVar

import torch

from lamofcbench.errors import SampleError
from lamofcbench.scores.base import Answer, Fidelity, Figure, Numbers, mean, quotient
from lamofcbench.scores.wer import word_errors

__all__ = ["TokenFidelity", "TranscriptFidelity", "divergence"]


def divergence(uncoded: torch.Tensor, coded: torch.Tensor) -> torch.Tensor:
    """Kullback-Leibler divergence of the distributions that logits stand for.

    Args:
        uncoded: [..., classes]: of the distribution that the mean is taken over.
        coded: the same shape.

    Returns:
        float64 [...], in nats; exactly 0 where the logits are equal.
    """
    first, second = uncoded.double().log_softmax(-1), coded.double().log_softmax(-1)
    return (first.exp() * (first - second)).sum(-1)


class TokenFidelity(Fidelity):
    """Of teacher-forced logits.

    ``agree_first`` and ``agree_rest`` are shares of tokens where both models choose the same,
    ``kl_first`` and ``kl_rest`` mean divergences in nats, ``same_answer`` the share of samples of
    which the whole answer is the same text. Means are over samples of means over tokens. A mode
    that gives one token has none of the rest, and its headline is ``agree_first``.
    """

    figures: ClassVar[tuple[Figure, ...]] = (
        Figure("agree_rest", mean),
        Figure("agree_first", mean),
        Figure("kl_rest", mean, higher_is_better=False),
        Figure("kl_first", mean, higher_is_better=False),
        Figure("same_answer", mean),
    )

    def compare(self, uncoded: Answer, coded: Answer) -> Numbers:
        """See `Fidelity.compare`."""
        if uncoded.forced.shape != coded.forced.shape:
            raise SampleError("its continuations differ in length")
        agree = (uncoded.forced.argmax(-1) == coded.forced.argmax(-1)).double()
        away = divergence(uncoded.forced, coded.forced)
        numbers: dict[str, Sequence[float]] = {
            "agree_first": [float(agree[0])],
            "kl_first": [float(away[0])],
            "same_answer": [float(uncoded.prediction == coded.prediction)],
        }
        if len(agree) > 1:
            numbers["agree_rest"] = [float(agree[1:].mean())]
            numbers["kl_rest"] = [float(away[1:].mean())]
        return numbers


class TranscriptFidelity(TokenFidelity):
    """As `TokenFidelity`, and ``wer_uncoded``: word error rate against the uncoded transcript."""

    figures = (
        *TokenFidelity.figures,
        Figure("wer_uncoded", quotient, higher_is_better=False),
    )

    def compare(self, uncoded: Answer, coded: Answer) -> Numbers:
        """See `Fidelity.compare`."""
        errors = word_errors(coded.prediction, uncoded.prediction)
        return {**super().compare(uncoded, coded), "wer_uncoded": errors}
