"""Rotary position embedding of cached keys: done, undone, and its base found from the keys.

Su et al., "RoFormer: Enhanced Transformer with Rotary Position Embedding" (arXiv 2104.09864), with
pairs (i, i + d/2) as in the transformers library. Keys are counted from 0: a prefix that is missing
turns every pair by a constant angle, which changes neither what is fitted nor its variance.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["BASES", "find_base", "rotate"]

BASES = (0.0, 1e4, 1e5, 5e5, 1e6, 5e6)
"""Usual bases; 0 for none."""

Matrix = NDArray[np.float64]


def rotate(rows: NDArray[Any], dim: int, base: float, *, undo: bool = False) -> Matrix:
    """Turn each pair of each head by its token's angle.

    Args:
        rows: [tokens, heads x dim].
        dim: of a head; an odd one is left as it is.
        base: of the angles; 0 for none.
        undo: turn back.

    Returns:
        [tokens, heads x dim], float64.
    """
    wide = rows.astype(np.float64)
    if not base or dim % 2 or not wide.size:
        return wide
    half = dim // 2
    angles = np.arange(len(rows))[:, None] * base ** (-np.arange(half) / half)
    cos, sin = np.cos(angles)[:, None], np.sin(angles)[:, None] * (-1 if undo else 1)
    heads = wide.reshape(len(rows), -1, dim)
    one, two = heads[..., :half], heads[..., half:]
    turned = np.concatenate([one * cos - two * sin, two * cos + one * sin], -1)
    return turned.reshape(wide.shape)


def find_base(samples: Iterable[NDArray[Any]], dim: int) -> float:
    """The base whose undoing leaves the least variance over tokens.

    Args:
        samples: [tokens, heads x dim] each.
        dim: of a head.
    """
    left = dict.fromkeys(BASES, 0.0)
    for rows in samples:
        if len(rows):
            for base in BASES:
                left[base] += rotate(rows, dim, base, undo=True).var(0).sum() * len(rows)
    return min(BASES, key=left.__getitem__)
