"""A light depth head over several levels, in the manner of DPT.

It is not the reference's head, a DPT of 28 M parameters and more whose weights are published for
DINOv3's own code alone: like that one it projects each level, fuses them and refines the result by
convolutions, but it sums where DPT refines level by level.
"""

import math
from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import nn
from torch.nn import functional as F

from lamofcbench.models.heads.dense import DenseHead
from lamofcbench.models.heads.levels import LevelSum

__all__ = ["DEPTH_RANGE", "DepthHead"]

DEPTH_RANGE = (0.001, 10.0)
"""Metres; answers are kept within it, as the official evaluation does."""


class DepthHead(DenseHead):
    """Per level a norm and a linear map; the levels summed; two convolutions to log depth."""

    file: ClassVar[str] = "depth_head.safetensors"

    def __init__(self, dim: int, levels: int, channels: int, fine: int, prefix: int) -> None:
        """Make it with random weights; ``channels`` is the width of the fused map."""
        super().__init__(dim, levels, channels, fine, prefix)
        self.levels = LevelSum(dim, levels, channels, fine, prefix)
        self.refine = nn.Conv2d(channels, channels, 3, padding=1, padding_mode="replicate")
        self.out = nn.Conv2d(channels, 1, 1)
        # Three metres, so that training starts inside the range.
        nn.init.constant_(self.out.bias, math.log(3))  # type: ignore[arg-type]

    @classmethod
    def layout(cls, dim: int, levels: int) -> str:
        """Say in one line what the file must hold."""
        return (
            f"levels.norms.i.weight and .bias [{dim}] and levels.weights.i "
            f"[c, fine, fine, {dim}] for i in 0..{levels - 1}, levels.bias [c], refine.weight "
            "[c, c, 3, 3], refine.bias [c], out.weight [1, c, 1, 1] and out.bias [1]"
        )

    def forward(self, levels: Mapping[int, torch.Tensor], grid: tuple[int, int]) -> torch.Tensor:
        """Return depth in metres [batch, 1, height x fine, width x fine]; see `LevelSum`."""
        fused = F.gelu(self.levels(levels, grid))
        log_depth = self.out(F.gelu(self.refine(fused)))
        low, high = (math.log(bound) for bound in DEPTH_RANGE)
        return torch.exp(log_depth.clamp(low, high))
