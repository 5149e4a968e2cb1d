"""Holds some entries of parameters fixed while the rest are trained.

Large models keep a few channels of the residual stream at huge, nearly constant values. A miniature
gets such channels by having them from the start: what writes to them is held at zero, and where
they begin they are held at their value.
"""

from typing import Any

import torch

__all__ = ["Pins"]


class Pins:
    """Entries of parameters, and the values that they keep."""

    def __init__(self) -> None:
        """Hold nothing yet."""
        self._held: list[tuple[torch.nn.Parameter, Any, torch.Tensor]] = []
        self._blind: list[tuple[torch.nn.Parameter, torch.Tensor]] = []

    def hold(self, parameter: torch.nn.Parameter, index: Any, value: float | torch.Tensor) -> None:
        """Set some entries at once, and again after each step of an optimiser that is tied.

        Args:
            parameter: which.
            index: what selects the entries, as in ``parameter[index]``.
            value: what they keep.
        """
        kept = torch.as_tensor(value, dtype=parameter.dtype)
        self._held.append((parameter, index, kept))
        with torch.no_grad():
            parameter[index] = kept

    @torch.no_grad()
    def blind(self, weight: torch.nn.Parameter, directions: torch.Tensor) -> None:
        """Keep a linear layer from seeing some directions of its input, as `hold` keeps entries.

        Args:
            weight: [outputs, inputs].
            directions: orthonormal rows, [directions, inputs].
        """
        self._blind.append((weight, directions))
        weight -= weight @ directions.T @ directions

    def tie(self, optimiser: torch.optim.Optimizer) -> None:
        """Set all entries again after each of an optimiser's steps."""
        optimiser.register_step_post_hook(lambda *_: self.apply())

    @torch.no_grad()
    def apply(self) -> None:
        """Set all entries again."""
        for parameter, index, value in self._held:
            parameter[index] = value
        for weight, directions in self._blind:
            weight -= weight @ directions.T @ directions
