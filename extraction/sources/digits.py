"""Handwritten digits of scikit-learn: which of them are for training and which are held out."""

import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

__all__ = ["partition"]

_HELD_OUT = 388


def partition(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Split the 1797 digits into training and held-out ones, balanced over the classes.

    Args:
        seed: draws the split; every miniature uses 0.

    Returns:
        Indices into ``load_digits()``, ascending: 1409 for training, 388 held out.
    """
    labels = load_digits().target
    train, held = train_test_split(
        np.arange(len(labels)), test_size=_HELD_OUT, stratify=labels, random_state=seed
    )
    return np.sort(train), np.sort(held)
