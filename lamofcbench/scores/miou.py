"""Mean intersection over union, with areas summed over the whole set."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["areas", "mean_iou"]


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
