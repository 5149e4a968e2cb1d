"""Measuring where no model can be run: rates and distortions of features whose context is unknown.

Imported features lack what scoring needs. What stands in the model's place hands features on as its
answer, so that points run as they do elsewhere, and what is kept is told by how like the features
themselves are.
"""

from collections.abc import Mapping
from typing import Any, NoReturn, Self

import torch

from lamofcbench.bench.rates import distortions
from lamofcbench.errors import ModelError
from lamofcbench.models.base import Capture, Family, Half, Output
from lamofcbench.scores.base import Answer, Fidelity, Figure, Numbers, mean
from lamofcbench.spec import ProfileSpec

__all__ = ["FeatureFidelity", "NoModel"]


class NoModel(Family):
    """In a model's place: its answer to features is the features."""

    name = "none"

    def __init__(self, profile: ProfileSpec) -> None:
        """Serve a declaration."""
        self.profile = profile
        self.parameters_loaded = self.parameters_total = 0
        self.revision = ""
        self.half = "whole"

    @classmethod
    def load(
        cls,
        profile: ProfileSpec,
        *,
        device: str = "cpu",
        half: Half = "whole",
        mode: str | None = None,
    ) -> Self:
        """See `Family.load`: there is nothing to load."""
        return cls(profile)

    @classmethod
    def revision_of(cls, profile: ProfileSpec) -> str:
        """See `Family.revision_of`."""
        return ""

    def front(self, inputs: Mapping[str, Any]) -> Capture:
        """See `Family.front`: it has none."""
        self._refuse()

    def plain(self, inputs: Mapping[str, Any], mode: str | None = None) -> Output:
        """See `Family.plain`: it has none."""
        self._refuse()

    def _refuse(self) -> NoReturn:
        raise ModelError("imported features: no model made them here")

    def _back(
        self, features: Mapping[str, torch.Tensor], context: Mapping[str, torch.Tensor], mode: str
    ) -> Output:
        return Output(dict(features), torch.zeros(0))


class FeatureFidelity(Fidelity):
    """How like the stored features the decoded ones are: the mean over keys of their cosine."""

    figures = (Figure("cosine", mean),)

    def compare(self, uncoded: Answer, coded: Answer) -> Numbers:
        """See `Fidelity.compare`."""
        return {"cosine": distortions(uncoded.prediction, coded.prediction)["cosine"]}
