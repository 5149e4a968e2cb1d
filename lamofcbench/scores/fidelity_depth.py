"""Likeness of a depth map to the uncoded model's."""

import numpy as np

from lamofcbench.scores.base import Answer, Fidelity, Figure, Numbers, mean

__all__ = ["DepthFidelity"]

NEAR = 1.05


class DepthFidelity(Fidelity):
    """``within_5``: share of pixels within 5 % of the uncoded depth; ``rmse_uncoded`` in metres.

    Within 5 % rather than the customary 25 %, for the latter hardly moves under coding.
    """

    figures = (
        Figure("within_5", mean),
        Figure("rmse_uncoded", mean, higher_is_better=False),
    )

    def compare(self, uncoded: Answer, coded: Answer) -> Numbers:
        """See `Fidelity.compare`."""
        truth = np.asarray(uncoded.prediction, np.float64)
        answer = np.asarray(coded.prediction, np.float64)
        ratio = np.maximum(answer, truth) / np.minimum(answer, truth)
        return {
            "within_5": [float((ratio < NEAR).mean())],
            "rmse_uncoded": [float(np.sqrt(((answer - truth) ** 2).mean()))],
        }
