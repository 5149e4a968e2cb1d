"""Top-1 accuracy, over all classes or over those that a data set has."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lamofcbench.scores.base import Answer, Figure, Numbers, Score, mean, required
from lamofcbench.scores.classes import restricted_classes

__all__ = ["Top1", "answers", "top1"]


def answers(logits: ArrayLike, classes: Sequence[int] | None = None) -> NDArray[np.int64]:
    """Choose a class for each sample.

    Args:
        logits: float [samples, all classes].
        classes: those that may be answered; all by default. ImageNet-A and -R have 200 of the
            1000, and are scored among those.

    Returns:
        int64 [samples], numbered among all classes.

    Raises:
        ValueError: the logits have no such shape, or no class like that.
    """
    array = np.asarray(logits)
    if array.ndim != 2:
        raise ValueError(f"logits: {array.shape}; needs [samples, classes]")
    if classes is None:
        return np.asarray(array.argmax(1), np.int64)
    chosen = np.asarray(sorted(set(classes)), np.int64)
    if not len(chosen) or chosen[0] < 0 or chosen[-1] >= array.shape[1]:
        raise ValueError(f"classes: need some of 0..{array.shape[1] - 1}")
    return np.asarray(chosen[array[:, chosen].argmax(1)], np.int64)


def top1(logits: ArrayLike, labels: ArrayLike, classes: Sequence[int] | None = None) -> float:
    """Share of the samples whose class is answered.

    Args:
        logits: float [samples, all classes].
        labels: int [samples], numbered among all classes.
        classes: as for `answers`.

    Returns:
        0..1.

    Raises:
        ValueError: shapes disagree, or there are no samples.
    """
    chosen, wanted = answers(logits, classes), np.asarray(labels)
    if chosen.shape != wanted.shape or not len(wanted):
        raise ValueError(f"{chosen.shape} answers for {wanted.shape} labels")
    return float((chosen == wanted).mean())


class Top1(Score):
    """Top-1 accuracy among the classes that the config's data set has."""

    figures = (Figure("top1", mean),)

    def measure(
        self, answer: Answer, reference: Mapping[str, Any], context: Mapping[str, Any]
    ) -> Numbers:
        """See `Score.measure`."""
        classes = restricted_classes(self.config, self.profile)
        logits = np.asarray(answer.logits)[None]
        return {"top1": [top1(logits, [required(reference, "label")], classes)]}

    def chance(self, references: Sequence[tuple[Mapping[str, Any], Mapping[str, Any]]]) -> float:
        """Share of the commonest class."""
        counts = Counter(required(reference, "label") for reference, _ in references)
        return counts.most_common(1)[0][1] / len(references)
