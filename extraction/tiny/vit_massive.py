"""Gives the DINOv3 miniatures the massive channels and outlier tokens of the published models.

At full size two channels of the residual stream reach -13,079 and 7,268 while most values are near
1, and registers have norms far above the patches'. Here both are there from the start of training
and held, so that the rest learns to live with them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from extraction.tiny.pins import Pins

__all__ = ["MASSIVE", "Massive", "imprint"]


@dataclass(frozen=True)
class Massive:
    """One massive channel.

    Attributes:
        channel: which.
        start: its value in the class token, and in patches and registers but for their factors.
        growth: what every block adds in all tokens.
    """

    channel: int
    start: float
    growth: float


MASSIVE = (Massive(17, -3072.0, -1024.0), Massive(58, 512.0, 768.0))
REGISTER_FACTORS = (0.75, 1.25, 0.875, 1.125)
PATCH_SPREAD = 6e-3
"""Deviation of the weights by which a patch's pixels change its factor: a few per cent in all."""
OUTLIER = 48.0
"""Of a register in its share of the ordinary channels; those of patches deviate by 1 to 6."""
PATCH_GAIN = 4.0
"""Scales the first patch weights: norms that massive channels rule don't enlarge what is small."""


def imprint(backbone: Any, norms: Sequence[nn.LayerNorm], pins: Pins, seed: int) -> None:
    """Hold massive channels and outlier registers in a model that is yet to be trained.

    Norms start with the weight and bias that undo what massive channels do to the others, and never
    show the massive ones themselves. Every value is exact in bfloat16.

    Args:
        backbone: a ``DINOv3ViTModel``.
        norms: of a head, one per block in order, each on that block's output; or none.
        pins: what holds the values.
        seed: of the registers' outliers and the patches' factors.
    """
    random = torch.Generator().manual_seed(seed)
    embeddings = backbone.embeddings
    registers, patches = embeddings.register_tokens, embeddings.patch_embeddings
    dim, count = registers.shape[-1], registers.shape[1]
    outliers = _outliers(dim, count, random)
    pins.hold(registers, 0, OUTLIER * outliers)
    hidden = nn.functional.normalize(outliers, dim=1)
    with torch.no_grad():
        patches.weight.mul_(PATCH_GAIN)
    factors = torch.randn(patches.weight.shape[1:], generator=random) * PATCH_SPREAD
    factors -= factors.mean()
    for m in MASSIVE:
        pins.hold(embeddings.cls_token, (..., m.channel), m.start)
        pins.hold(registers, (0, slice(None), m.channel), m.start * torch.tensor(REGISTER_FACTORS))
        pins.hold(patches.bias, m.channel, m.start)
        pins.hold(patches.weight, m.channel, (m.start * factors).bfloat16())
        for block in backbone.model.layer:
            pins.hold(block.layer_scale1.lambda1, m.channel, 0)
            pins.hold(block.layer_scale2.lambda1, m.channel, 1)
            pins.hold(block.mlp.down_proj.weight, m.channel, 0)
            pins.hold(block.mlp.down_proj.bias, m.channel, m.growth)
    for depth, block in enumerate(backbone.model.layer):
        attention = block.attention
        for layer in (attention.q_proj, attention.k_proj, attention.v_proj, block.mlp.up_proj):
            pins.blind(layer.weight, hidden)
        _adapt(block.norm1, depth, pins)
        _adapt(block.norm2, depth, pins)
    _adapt(backbone.norm, len(backbone.model.layer), pins)
    for depth, norm in enumerate(norms):
        _adapt(norm, depth + 1, pins)


def _outliers(dim: int, count: int, random: torch.Generator) -> torch.Tensor:
    """Share the ordinary channels out to registers, [registers, dim] of -1, 0 and 1.

    Those of one register add up to 0, so that no norm moves the others by their mean.
    """
    ordinary = torch.tensor([i for i in range(dim) if i not in {m.channel for m in MASSIVE}])
    each = len(ordinary) // count // 2 * 2
    order = ordinary[torch.randperm(len(ordinary), generator=random)][: each * count]
    outliers = torch.zeros(count, dim)
    outliers.scatter_(
        1, order.view(count, each), torch.tensor([1.0, -1.0]).repeat(count, each // 2)
    )
    return outliers


def _adapt(norm: nn.LayerNorm, depth: int, pins: Pins) -> None:
    """Make a norm give the ordinary channels as it would without the massive ones."""
    values = torch.zeros(norm.normalized_shape)
    for m in MASSIVE:
        values[m.channel] = m.start + depth * m.growth
    with torch.no_grad():
        norm.weight.fill_(float(values.std(correction=0)))
    # Held, because what training would add to a number this large is lost in bfloat16.
    pins.hold(norm.bias, slice(None), float(values.mean().bfloat16()))
    for m in MASSIVE:
        pins.hold(norm.weight, m.channel, 0)
        pins.hold(norm.bias, m.channel, 0)
