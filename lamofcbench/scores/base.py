"""What every score and every fidelity offers: a row of numbers a sample, totalled by figures.

Rows, rather than one number a sample, because some figures are no means: word errors are summed
over words, and areas of classes over the whole set. Resampling rows gives such figures intervals.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from lamofcbench.errors import SampleError
from lamofcbench.metrics.bootstrap import Totals

__all__ = ["Answer", "Fidelity", "Figure", "Numbers", "Score", "mean", "quotient", "required"]

Numbers = Mapping[str, Sequence[float] | NDArray[np.float64]]
"""One sample's row for each figure, by the figure's name."""


@dataclass(frozen=True)
class Answer:
    """What a back half made of one sample's features.

    Attributes:
        prediction: a class, a text, a map or an image.
        logits: what it was read from.
        forced: float32 [n, vocabulary], of the uncoded model's continuation; None where answers
            aren't text.
    """

    prediction: Any
    logits: Any
    forced: Any = None


@dataclass(frozen=True)
class Figure:
    """One figure over a set of samples.

    Attributes:
        name: as in results.
        totals: makes it of the samples' rows.
        higher_is_better: False for errors and distances.
        recentred: as for `interval`.
    """

    name: str
    totals: Totals
    higher_is_better: bool = True
    recentred: bool = False


def mean(rows: NDArray[np.float64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean of rows of one number each."""
    means: NDArray[np.float64] = weights @ rows[:, 0] / weights.sum(1)
    return means


def quotient(rows: NDArray[np.float64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sum of the rows' first number over the sum of their second."""
    above, below = (weights @ rows[:, :2]).T
    quotients: NDArray[np.float64] = above / below
    return quotients


def required(reference: Mapping[str, Any], name: str) -> Any:
    """Get one entry of a sample's reference.

    Raises:
        SampleError: it isn't there.
    """
    if reference.get(name) is None:
        raise SampleError(f"has no reference {name!r}, which its score needs")
    return reference[name]


class Score(ABC):
    """How right answers are.

    Attributes:
        figures: the first is the score.
    """

    figures: ClassVar[tuple[Figure, ...]]

    def __init__(self, config: str, profile: str) -> None:
        """Score answers of one config and profile."""
        self.config = config
        self.profile = profile

    @abstractmethod
    def measure(
        self, answer: Answer, reference: Mapping[str, Any], context: Mapping[str, Any]
    ) -> Numbers:
        """Make one sample's rows.

        Args:
            answer: the back half's.
            reference: the label or answer, by name.
            context: what the back half was given, for the sizes of maps.

        Raises:
            SampleError: the reference is missing.
        """

    @abstractmethod
    def chance(self, references: Sequence[tuple[Mapping[str, Any], Mapping[str, Any]]]) -> float:
        """The score of the best answer that never looks at the input.

        Args:
            references: reference and context of each sample.
        """


class Fidelity(ABC):
    """How like the uncoded model's answers those from decoded features are; needs no reference.

    Attributes:
        figures: the first is the headline, 1 where nothing changed and lower where something did.
    """

    figures: ClassVar[tuple[Figure, ...]]

    @abstractmethod
    def compare(self, uncoded: Answer, coded: Answer) -> Numbers:
        """Make one sample's rows."""
