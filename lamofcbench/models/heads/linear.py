"""A linear classifier over the class token and the mean patch token."""

from collections.abc import Mapping
from typing import Self

import torch
from torch import nn
from torch.nn import functional as F

from lamofcbench.errors import ModelError

__all__ = ["LinearHead"]


class LinearHead(nn.Module):
    """Classifies from the class token and the mean patch token.

    This is DINOv3's own linear classifier. Its file holds ``weight`` [classes, 2 x dim] and
    ``bias`` [classes], for the normalised class token followed by the mean of the normalised patch
    tokens.
    """

    file = "head.safetensors"

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor, prefix: int) -> None:
        """Hold the weights.

        Args:
            weight: [classes, 2 x dim].
            bias: [classes].
            prefix: tokens before the patch tokens: the class token and the registers.
        """
        super().__init__()
        self.weight = nn.Parameter(weight)
        self.bias = nn.Parameter(bias)
        self.prefix = prefix

    @classmethod
    def layout(cls, dim: int, _levels: int) -> str:
        """Say in one line what the file must hold."""
        return f"weight [classes, {2 * dim}] and bias [classes]"

    @classmethod
    def from_tensors(
        cls, tensors: Mapping[str, torch.Tensor], dim: int, levels: int, prefix: int
    ) -> Self:
        """Make the head from its file's tensors.

        Raises:
            ModelError: they are not as `layout` says.
        """
        shapes = {key: tuple(value.shape) for key, value in tensors.items()}
        match shapes:
            case {"weight": (rows, columns), "bias": (classes,)} if len(shapes) == 2:
                fits = rows == classes and columns == 2 * dim
            case _:
                fits = False
        if not fits:
            raise ModelError(f"{cls.file} has {shapes}; needs {cls.layout(dim, levels)}")
        return cls(tensors["weight"], tensors["bias"], prefix)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Return logits [batch, classes] of normalised tokens [batch, tokens, dim]."""
        pooled = torch.cat([tokens[:, 0], tokens[:, self.prefix :].mean(1)], dim=-1)
        return F.linear(pooled, self.weight, self.bias)
