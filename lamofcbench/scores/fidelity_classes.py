"""Agreement with the uncoded model's classes, and divergence of class probabilities."""

import torch

from lamofcbench.scores.base import Answer, Fidelity, Figure, Numbers, mean
from lamofcbench.scores.fidelity_tokens import divergence

__all__ = ["ClassFidelity"]


class ClassFidelity(Fidelity):
    """``agree``: share of samples with the same top class; ``kl``: mean divergence in nats."""

    figures = (Figure("agree", mean), Figure("kl", mean, higher_is_better=False))

    def compare(self, uncoded: Answer, coded: Answer) -> Numbers:
        """See `Fidelity.compare`."""
        first, second = torch.as_tensor(uncoded.logits), torch.as_tensor(coded.logits)
        return {
            "agree": [float(first.argmax() == second.argmax())],
            "kl": [float(divergence(first, second))],
        }
