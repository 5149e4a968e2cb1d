"""A light segmentation head over several levels.

It is not the reference's head. That is a Mask2Former over a ViT adapter, which reads the image's
pixels besides the features; its weights are published for DINOv3's own code alone. This one reads
features only, so nothing but what crosses the split can answer.
"""

from collections.abc import Mapping
from typing import ClassVar

import torch

from lamofcbench.models.heads.dense import DenseHead
from lamofcbench.models.heads.levels import LevelSum

__all__ = ["SegmentationHead"]


class SegmentationHead(DenseHead):
    """Per level a norm and a linear map to class scores; the levels summed."""

    file: ClassVar[str] = "segmentation_head.safetensors"

    def __init__(self, dim: int, levels: int, channels: int, fine: int, prefix: int) -> None:
        """Make it with random weights; ``channels`` is the number of classes."""
        super().__init__(dim, levels, channels, fine, prefix)
        self.levels = LevelSum(dim, levels, channels, fine, prefix)

    @classmethod
    def layout(cls, dim: int, levels: int) -> str:
        """Say in one line what the file must hold."""
        return (
            f"levels.norms.i.weight and .bias [{dim}] and levels.weights.i "
            f"[classes, fine, fine, {dim}] for i in 0..{levels - 1}, and levels.bias [classes]"
        )

    def forward(self, levels: Mapping[int, torch.Tensor], grid: tuple[int, int]) -> torch.Tensor:
        """Return class scores [batch, classes, height x fine, width x fine]; see `LevelSum`."""
        scores: torch.Tensor = self.levels(levels, grid)
        return scores
