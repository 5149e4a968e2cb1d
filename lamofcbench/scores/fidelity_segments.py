"""Likeness of a map of classes to the uncoded model's."""

import numpy as np

from lamofcbench.scores.base import Answer, Fidelity, Figure, Numbers, mean
from lamofcbench.scores.miou import areas, mean_iou_totals

__all__ = ["SegmentFidelity"]


class SegmentFidelity(Fidelity):
    """``miou_uncoded``: mean IoU with the uncoded map as truth; ``agree``: pixels of one class."""

    figures = (Figure("miou_uncoded", mean_iou_totals), Figure("agree", mean))

    def compare(self, uncoded: Answer, coded: Answer) -> Numbers:
        """See `Fidelity.compare`."""
        truth, answer = np.asarray(uncoded.prediction), np.asarray(coded.prediction)
        counts = areas(answer, truth.astype(np.int64) + 1, len(uncoded.logits))
        return {
            "miou_uncoded": counts.ravel().astype(np.float64),
            "agree": [float((answer == truth).mean())],
        }
