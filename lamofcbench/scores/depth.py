"""Errors of depth maps, as measured on NYU Depth v2: raw, or aligned by least squares first.

Alignment hides errors of scale and shift, so the aligned figures mean little without the raw ones.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lamofcbench.errors import SampleError
from lamofcbench.scores.base import Answer, Figure, Numbers, Score, mean, required

__all__ = [
    "DEPTH_RANGE",
    "Depth",
    "DepthErrors",
    "align",
    "depth_errors",
    "eigen_crop",
    "mean_errors",
]

DEPTH_RANGE = (0.001, 10.0)
"""Metres; true depths outside are not scored, answers outside are brought to the nearer end."""


@dataclass(frozen=True)
class DepthErrors:
    """Errors of one map, or their means over several.

    Attributes:
        rmse: root mean square error in metres.
        abs_rel: mean of |answer - truth| / truth.
        delta1: share of pixels where the larger is below 1.25 times the smaller.
        delta2: the same with 1.25 squared.
        delta3: the same with 1.25 cubed.
    """

    rmse: float
    abs_rel: float
    delta1: float
    delta2: float
    delta3: float


def eigen_crop(shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Mark the part of a map that is scored: Eigen's crop, which leaves out the borders.

    Rows 45 to 471 and columns 41 to 601 of 480 x 640; the same proportions of any other size.

    Returns:
        bool [height, width].
    """
    height, width = shape
    inside = np.zeros(shape, np.bool_)
    rows = slice(round(45 * height / 480), round(471 * height / 480))
    columns = slice(round(41 * width / 640), round(601 * width / 640))
    inside[rows, columns] = True
    return inside


def align(answer: NDArray[np.float64], truth: NDArray[np.float64]) -> NDArray[np.float64]:
    """Scale and shift an answer to be nearest to the truth, in the sense of least squares.

    Args:
        answer: [pixels].
        truth: [pixels].
    """
    centred = answer - answer.mean()
    spread = (centred**2).sum()
    scale = (centred * truth).sum() / spread if spread > 0 else 0.0
    aligned: NDArray[np.float64] = centred * scale + truth.mean()
    return aligned


def depth_errors(
    answer: ArrayLike, truth: ArrayLike, *, aligned: bool = False, crop: bool = True
) -> DepthErrors:
    """Measure one depth map.

    Args:
        answer: metres, [height, width].
        truth: metres, [height, width]; 0 where it is unknown.
        aligned: whether to align the answer to the truth first.
        crop: whether to score Eigen's crop alone.

    Raises:
        ValueError: shapes disagree, or no pixel has a true depth in range.
    """
    guess, true = np.asarray(answer, np.float64), np.asarray(truth, np.float64)
    if guess.shape != true.shape or true.ndim != 2:
        raise ValueError(f"an answer of {guess.shape} for a truth of {true.shape}")
    low, high = DEPTH_RANGE
    scored = (true > low) & (true < high)
    if crop:
        scored &= eigen_crop((true.shape[0], true.shape[1]))
    if not scored.any():
        raise ValueError("no pixel has a true depth in range")
    guess, true = guess[scored], true[scored]
    if aligned:
        guess = align(guess, true)
    guess = np.clip(guess, low, high)
    ratio = np.maximum(guess / true, true / guess)
    return DepthErrors(
        rmse=float(np.sqrt(((guess - true) ** 2).mean())),
        abs_rel=float((np.abs(guess - true) / true).mean()),
        **{f"delta{i}": float((ratio < 1.25**i).mean()) for i in (1, 2, 3)},
    )


def mean_errors(errors: Iterable[DepthErrors]) -> DepthErrors:
    """Average the errors of several maps, each counted once.

    Raises:
        ValueError: there are none.
    """
    rows = [asdict(error) for error in errors]
    if not rows:
        raise ValueError("no maps")
    return DepthErrors(**{name: float(np.mean([row[name] for row in rows])) for name in rows[0]})


def _truth(reference: Mapping[str, Any], context: Mapping[str, Any]) -> NDArray[np.float64]:
    depth = np.asarray(required(reference, "depth"), np.float64)
    height, width = (int(size) for size in context["map_size"])
    if depth.size != height * width:
        raise SampleError(f"depths of {depth.size} pixels for a map of {height} x {width}")
    return depth.reshape(height, width)


class Depth(Score):
    """Errors of depth maps, raw and aligned by least squares; the score is the raw RMSE, metres."""

    figures = tuple(
        Figure(f"{name}{kind}", mean, higher_is_better=name.startswith("delta"))
        for kind in ("", "_aligned")
        for name in ("rmse", "abs_rel", "delta1", "delta2", "delta3")
    )

    def measure(
        self, answer: Answer, reference: Mapping[str, Any], context: Mapping[str, Any]
    ) -> Numbers:
        """See `Score.measure`."""
        truth = _truth(reference, context)
        numbers = {}
        for kind in ("", "_aligned"):
            errors = asdict(depth_errors(answer.prediction, truth, aligned=bool(kind)))
            numbers.update({f"{name}{kind}": [value] for name, value in errors.items()})
        return numbers

    def chance(self, references: Sequence[tuple[Mapping[str, Any], Mapping[str, Any]]]) -> float:
        """That of the mean depth of all maps, everywhere."""
        truths = [_truth(reference, context) for reference, context in references]
        fixed = float(np.mean(np.concatenate([truth[truth > 0] for truth in truths])))
        errors = (depth_errors(np.full_like(truth, fixed), truth) for truth in truths)
        return mean_errors(errors).rmse
