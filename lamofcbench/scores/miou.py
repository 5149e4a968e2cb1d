"""Mean intersection over union, with areas summed over the whole set."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lamofcbench.errors import SampleError
from lamofcbench.scores.base import Answer, Figure, Numbers, Score, required

__all__ = ["MeanIou", "areas", "mean_iou", "mean_iou_totals"]


def areas(prediction: ArrayLike, mask: ArrayLike, classes: int) -> NDArray[np.int64]:
    """Count the pixels of one image that go into the score.

    Args:
        prediction: int, any shape: a class 0..classes-1 per pixel.
        mask: int, the same shape: class + 1 per pixel, and 0 where there is no label, as ADE20K
            numbers its annotations. Unlabelled pixels count nowhere.
        classes: how many there are.

    Returns:
        int64 [3, classes]: pixels that agree, predicted pixels and labelled pixels of each class.
        Sum these over the images of a set.

    Raises:
        ValueError: shapes disagree, or a class is out of range.
    """
    answer, label = np.asarray(prediction).ravel(), np.asarray(mask).ravel()
    if answer.shape != label.shape:
        raise ValueError(f"a prediction of {answer.size} pixels for a mask of {label.size}")
    answer, label = answer.astype(np.int64), label.astype(np.int64)
    if answer.size and not (
        0 <= answer.min() <= answer.max() < classes and 0 <= label.min() <= label.max() <= classes
    ):
        raise ValueError(f"a class beyond the {classes} that there are")
    answer, label = answer[label > 0], label[label > 0] - 1
    counted = (answer[answer == label], answer, label)
    return np.stack([np.bincount(part, minlength=classes) for part in counted]).astype(np.int64)


def mean_iou(counts: NDArray[np.int64] | Iterable[NDArray[np.int64]]) -> float:
    """Mean over the classes of intersection over union.

    Args:
        counts: what `areas` returned, of one image or of all images of a set.

    Returns:
        0..1. Classes that are neither labelled nor predicted anywhere are left out.

    Raises:
        ValueError: no pixel has a label.
    """
    total = counts if isinstance(counts, np.ndarray) else np.sum(list(counts), axis=0)
    both, predicted, labelled = total
    union = predicted + labelled - both
    if not labelled.sum():
        raise ValueError("no pixel has a label")
    return float((both[union > 0] / union[union > 0]).mean())


def mean_iou_totals(rows: NDArray[np.float64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """`mean_iou` of several weightings of samples.

    Args:
        rows: [samples, 3 x classes], flattened results of `areas`.
        weights: [resamples, samples].

    Returns:
        [resamples].
    """
    return np.array([mean_iou(total.reshape(3, -1)) for total in weights @ rows])


class MeanIou(Score):
    """Mean IoU of maps, in the mask's size. The mask numbers classes from 1; 0 is unlabelled."""

    figures = (Figure("miou", mean_iou_totals),)

    def measure(
        self, answer: Answer, reference: Mapping[str, Any], context: Mapping[str, Any]
    ) -> Numbers:
        """See `Score.measure`."""
        mask = np.asarray(required(reference, "mask"))
        answered = np.asarray(answer.prediction)
        if answered.size != mask.size:
            raise SampleError(f"a map of {answered.size} pixels for a mask of {mask.size}")
        return {"miou": areas(answered, mask, len(answer.logits)).ravel().astype(np.float64)}

    def chance(self, references: Sequence[tuple[Mapping[str, Any], Mapping[str, Any]]]) -> float:
        """That of the one class that scores best everywhere."""
        masks = [np.asarray(required(reference, "mask")).ravel() for reference, _ in references]
        classes = max(int(mask.max()) for mask in masks)

        def everywhere(number: int) -> float:
            return mean_iou([areas(np.full_like(mask, number), mask, classes) for mask in masks])

        return max(everywhere(number) for number in range(classes))
