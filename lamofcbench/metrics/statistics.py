"""What a key's values are like: tails, channels, tokens, rank.

Codecs live or die by these: a few massive channels, or one sink token, ruin a quantiser that shares
one scale. Rows are tokens (crops, views, pixels, states alike), columns are channels.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lamofcbench.axes import CHANNEL_AXES

__all__ = ["Statistics", "as_rows", "statistics"]

RANK_ROWS = 2048


@dataclass(frozen=True)
class Statistics:
    """Figures of one key over some samples, in the order in which they are printed.

    Attributes:
        kurtosis: fourth moment over squared variance, of all values; 3 for a normal distribution.
        max_median: largest over median absolute value.
        deviation_ratio: largest over median deviation of a channel.
        mean_deviation: largest |mean| over deviation of a channel whose deviation isn't 0.
        channel_share: share of the energy in the three strongest channels.
        token_share: share of a sample's energy in its strongest row, mean over samples.
        effective_rank: exponential of the entropy of the singular values (Roy and Vetterli, 2007).
        minimum: smallest value.
        maximum: largest value.
    """

    kurtosis: float
    max_median: float
    deviation_ratio: float
    mean_deviation: float
    channel_share: float
    token_share: float
    effective_rank: float
    minimum: float
    maximum: float

    def as_dict(self) -> dict[str, float]:
        """The figures by name."""
        return asdict(self)


def as_rows(values: ArrayLike, axes: Sequence[str]) -> NDArray[np.float64]:
    """Bring one sample's tensor into rows and channels.

    Args:
        values: a tensor, without the sample axis.
        axes: the name of each of its axes.

    Returns:
        float64 [rows, channels]; a tensor with no other axes than channels is one row.
    """
    array = np.asarray(values, np.float64)
    if array.ndim != len(axes):
        raise ValueError(f"a tensor of {array.ndim} axes, named {', '.join(axes)}")
    columns = [i for i, axis in enumerate(axes) if axis in CHANNEL_AXES]
    rows = [i for i in range(array.ndim) if i not in columns]
    width = int(np.prod([array.shape[i] for i in columns]))
    return array.transpose(*rows, *columns).reshape(-1, width)


def _ratio(of: float, by: float) -> float:
    """A quotient that is infinite by zero, but 0 for nothing at all."""
    if by > 0:
        return float(of / by)
    return float("inf") if of > 0 else 0.0


def _effective_rank(rows: NDArray[np.float64]) -> float:
    step = max(1, len(rows) // RANK_ROWS)
    singular = np.linalg.svd(rows[::step], compute_uv=False)
    total = singular.sum()
    if total == 0:
        return 0.0
    share = singular[singular > 0] / total
    return float(np.exp(-(share * np.log(share)).sum()))


def statistics(samples: Sequence[ArrayLike], axes: Sequence[str]) -> Statistics:
    """Measure one key.

    Args:
        samples: its tensor in each of some samples, in the stored layout.
        axes: the name of each axis, without the sample axis.

    Raises:
        ValueError: there are no samples, or a value is not finite.
    """
    planes = [as_rows(sample, axes) for sample in samples]
    if not planes:
        raise ValueError("no samples")
    rows = np.concatenate(planes)
    if not np.isfinite(rows).all():
        raise ValueError("a value is not finite")
    size = np.abs(rows)
    centred = rows - rows.mean()
    variance = (centred**2).mean()
    deviation = rows.std(0)
    moving = deviation > 0
    mean = np.abs(rows.mean(0))
    energy = (rows**2).sum(0)
    strongest = [
        _ratio(float((plane**2).sum(1).max()), float((plane**2).sum())) for plane in planes
    ]
    return Statistics(
        kurtosis=_ratio(float((centred**4).mean()), float(variance**2)),
        max_median=_ratio(float(size.max()), float(np.median(size))),
        deviation_ratio=_ratio(float(deviation.max()), float(np.median(deviation))),
        mean_deviation=float((mean[moving] / deviation[moving]).max()) if moving.any() else 0.0,
        channel_share=_ratio(float(np.sort(energy)[-3:].sum()), float(energy.sum())),
        token_share=float(np.mean(strongest)),
        effective_rank=_effective_rank(rows),
        minimum=float(rows.min()),
        maximum=float(rows.max()),
    )
