"""The part that the dense heads share: what several levels say of each patch, summed."""

from collections.abc import Mapping

import torch
from torch import nn
from torch.nn import functional as F

__all__ = ["LevelSum"]


class LevelSum(nn.Module):
    """Normalises each level's patch tokens, projects them to a finer grid, and sums the levels.

    Levels may be left out: the sum over the others is scaled up in proportion. So a head that was
    trained with random first levels left out answers from any level on.

    Weights: per level i ``norms.<i>.weight`` [dim], ``norms.<i>.bias`` [dim] and ``weights.<i>``
    [channels, fine, fine, dim]; for all levels together ``bias`` [channels].
    """

    def __init__(self, dim: int, levels: int, channels: int, fine: int, prefix: int) -> None:
        """Make it with random weights.

        Args:
            dim: width of a token.
            levels: how many levels there are.
            channels: channels of the map that comes out.
            fine: cells of that map along each side of a patch.
            prefix: tokens before the patch tokens.
        """
        super().__init__()
        self.prefix = prefix
        self.fine = fine
        self.norms = nn.ModuleList([nn.LayerNorm(dim) for _ in range(levels)])
        self.weights = nn.ParameterList(
            [torch.randn(channels, fine, fine, dim) * (dim * levels) ** -0.5 for _ in range(levels)]
        )
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, levels: Mapping[int, torch.Tensor], grid: tuple[int, int]) -> torch.Tensor:
        """Sum the levels that are there.

        Args:
            levels: tokens [batch, tokens, dim] by the level's position, 0 for the earliest.
            grid: patches along the height and the width.

        Returns:
            [batch, channels, height x fine, width x fine].
        """
        total = None
        for position, tokens in levels.items():
            weight = self.weights[position]
            patches = self.norms[position](tokens[:, self.prefix :])
            said = F.linear(patches, weight.flatten(0, 2))
            total = said if total is None else total + said
        if total is None:
            raise ValueError("no levels")
        total = (total * (len(self.weights) / len(levels))).transpose(1, 2)
        cells = F.pixel_shuffle(total.reshape(*total.shape[:2], *grid), self.fine)
        return cells + self.bias[:, None, None]
