"""What every family offers: a front half, a back half, and the plain model they must equal."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self

import torch

from lamofcbench.errors import ModelError, UnknownNameError
from lamofcbench.spec import ProfileSpec

__all__ = ["Capture", "Family", "Half", "Output", "Restricted"]

Half = Literal["front", "back", "whole"]
"""How much of a model to load."""


@dataclass(frozen=True)
class Capture:
    """What a front half hands over for one sample, in the model's own layout, no batch axis.

    Attributes:
        features: a tensor per declared key, in the declared captured dtype.
        context: a tensor per declared context name.
        token_ids: int64 [N], of the prompt, where there is one: provenance, which the sample table
            keeps.
    """

    features: dict[str, torch.Tensor]
    context: dict[str, torch.Tensor]
    token_ids: torch.Tensor | None = None


@dataclass(frozen=True)
class Output:
    """What a back half, or the plain model, answers for one sample.

    Attributes:
        prediction: what a metric scores: a class, a text, a map.
        logits: what it was read from: [classes], or [steps, vocabulary] for generated text.
    """

    prediction: Any
    logits: torch.Tensor


class Restricted(Mapping[str, torch.Tensor]):
    """A view of some tensors that refuses to read any other: a mode's keys, or its context."""

    def __init__(
        self, tensors: Mapping[str, torch.Tensor], allowed: tuple[str, ...], what: str
    ) -> None:
        """Allow only the names in ``allowed``; ``what`` says in messages what they belong to."""
        self._tensors = tensors
        self._allowed = allowed
        self._what = what

    def __getitem__(self, name: str) -> torch.Tensor:
        """Return a tensor; `UnknownNameError` if it is outside the view."""
        if name not in self._allowed:
            raise UnknownNameError(self._what, name, self._allowed)
        return self._tensors[name]

    def __iter__(self) -> Iterator[str]:
        """Iterate over the allowed names."""
        return iter(self._allowed)

    def __len__(self) -> int:
        """Count the allowed names."""
        return len(self._allowed)


class Family(ABC):
    """Both halves of one model family.

    Attributes:
        profile: the declaration that this model serves.
        parameters_loaded: parameters in memory.
        parameters_total: parameters of the whole model.
        revision: what pins the weights that features depend on: a Hub commit, or a sha256 of the
            files that the front half reads. Empty if only the back half was loaded.
        half: what was loaded.
        back_mode: for which mode, if it is the back half.
    """

    name: ClassVar[str]
    profile: ProfileSpec
    parameters_loaded: int
    parameters_total: int
    revision: str
    half: Half = "whole"
    back_mode: str | None = None

    @classmethod
    @abstractmethod
    def load(
        cls,
        profile: ProfileSpec,
        *,
        device: str = "cpu",
        half: Half = "whole",
        mode: str | None = None,
    ) -> Self:
        """Load the weights that a profile names.

        Args:
            profile: the declaration.
            device: where the model runs; what it captures and answers comes back to the CPU.
            half: ``front`` loads no more than `front` needs, ``back`` no more than `back` needs in
                one mode; what needs more then raises `ModelError`. No file is opened that holds
                only tensors of the other half.
            mode: which, for the back half; the profile's first by default.

        Raises:
            ModelError: the checkpoint is missing, unreadable or of another architecture.
        """

    @classmethod
    @abstractmethod
    def revision_of(cls, profile: ProfileSpec) -> str:
        """Say what `revision` a profile's checkpoint would have, without loading it.

        Raises:
            ModelError: the checkpoint is missing, or its files are damaged.
        """

    @classmethod
    def adapted(cls, profile: ProfileSpec) -> ProfileSpec:
        """Bring a declaration's shapes and dtypes to the checkpoint that it now names.

        Called before a run with another model than the declared one; reads the checkpoint's
        configuration alone.

        Raises:
            ModelError: the checkpoint is missing or of another architecture, or this family takes
                no other.
        """
        raise ModelError(f"{profile.model.id}: family {cls.name} takes no other model")

    @abstractmethod
    def front(self, inputs: Mapping[str, Any]) -> Capture:
        """Run the front half on one sample's raw inputs and capture the declared tensors."""

    @abstractmethod
    def plain(self, inputs: Mapping[str, Any], mode: str | None = None) -> Output:
        """Run the whole model, as its library does, on one sample's raw inputs.

        Args:
            inputs: as for `front`.
            mode: what `back` in that mode must equal, where a mode answers less than the whole
                model: one token, or from fewer levels. The whole answer without one.
        """

    @abstractmethod
    def _back(
        self, features: Mapping[str, torch.Tensor], context: Mapping[str, torch.Tensor], mode: str
    ) -> Output:
        """Run the back half; the mappings hold no more than the mode declares."""

    def back(
        self,
        features: Mapping[str, torch.Tensor],
        context: Mapping[str, torch.Tensor],
        mode: str | None = None,
    ) -> Output:
        """Run the back half on features and context alone.

        Args:
            features: tensors by key, in the model's own layout; those of the mode are read.
            context: tensors by name; those that the mode declares are read.
            mode: which keys are injected; the profile's first mode by default.

        Raises:
            UnknownNameError: no such mode, or the back half read outside it.
            ModelError: the back half, or that of this mode, was not loaded.
        """
        return self._back(*self.views(features, context, mode))

    def views(
        self,
        features: Mapping[str, torch.Tensor],
        context: Mapping[str, torch.Tensor],
        mode: str | None = None,
    ) -> tuple[Restricted, Restricted, str]:
        """Restrict features and context to what a mode declares, and name the mode.

        Raises:
            UnknownNameError: no such mode.
            ModelError: the back half, or that of this mode, was not loaded.
        """
        spec = self.profile.mode(mode)
        name = mode or next(iter(self.profile.modes))
        self.require_half("back")
        if self.half == "back" and name != self.back_mode:
            raise ModelError(
                f"{self.profile.model.id}: only the back half of mode {self.back_mode} was loaded"
            )
        return (
            Restricted(features, spec.keys, f"key of mode {name}"),
            Restricted(context, spec.context, f"context of mode {name}"),
            name,
        )

    def require_half(self, needed: Half) -> None:
        """Raise `ModelError` if what is needed was not loaded."""
        if self.half not in (needed, "whole"):
            raise ModelError(f"{self.profile.model.id}: only its {self.half} half was loaded")

    def loaded_half(self, half: Half, mode: str | None) -> None:
        """Note what was loaded: a half and, for the back half, its mode or the first."""
        self.half = half
        self.back_mode = (mode or next(iter(self.profile.modes))) if half == "back" else None
