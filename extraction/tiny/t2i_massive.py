"""Gives the t2i miniature's text encoders massive channels and an outlier token each.

Both are there from the start of training and held, so that the rest learns to live with them. The
residual streams of the two CLIPs are keys as they are; that of the T5 is one after its last norm.
"""

from collections.abc import Sequence, Set
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from extraction.tiny.pins import Pins

__all__ = ["imprint"]

CLIP_SIZES = (704.0, 384.0)
"""Massive values of the two CLIPs; those of the first reach from -809 to 854 at full size."""
CLIP_CHANNELS = ((7, 15), (11, 30))
"""Of each, the negative and the positive massive channel."""
T5_SIZE = 512.0
T5_CHANNELS = (7, 35)
"""Columns that are massive in the CLIPs too, since all three share one input of the transformer."""
T5_LAST = (32.0, 16.0)
"""Weights of the T5's last norm for its massive channels, each about 5 before."""
T5_GAIN, T5_LAST_GAIN = 0.25, 0.5
"""What the T5's norms do to other channels, in the blocks and after them. Its feed-forward layers
multiply two maps of what they see, and no norm that massive channels rule keeps that from growing:
at a gain of 1 it leaves the range of float16."""
SPREAD = 0.2
"""How far a token's massive values may be from the usual, as a share."""
CLIP_OUTLIER, T5_OUTLIER = 16.0, 8.0
"""Of one token, the first of a CLIP and the last of the T5, in all channels that aren't massive."""
EMBEDDING = 0.5
"""Deviation of a CLIP's first embeddings: its norms no longer enlarge what is small."""
READ = 2.0**-9
"""Deviation of the weights with which the transformer reads massive channels."""


@dataclass(frozen=True)
class _Stream:
    """A residual stream: its width, its massive channels and their usual values."""

    width: int
    values: dict[int, float]

    @property
    def spread(self) -> float:
        """The deviation that norms see, nearly all of it the massive channels' own."""
        return float((torch.tensor([*self.values.values()]) ** 2).sum() / self.width) ** 0.5

    def outlier(self, random: torch.Generator, without: Set[int]) -> torch.Tensor:
        """Draw a direction over all channels but some: entries 1 and -1, which add up to 0."""
        ordinary = torch.tensor([i for i in range(self.width) if i not in without])
        order = ordinary[torch.randperm(len(ordinary), generator=random)]
        direction = torch.zeros(self.width)
        direction[order] = torch.tensor([1.0, -1.0]).repeat(len(order) // 2)
        return direction


def imprint(
    clips: Sequence[Any], t5: Any, eos: int, embedder: nn.Linear, pins: Pins, seed: int
) -> None:
    """Hold massive channels and outlier tokens in text encoders that are yet to be trained.

    Args:
        clips: the two CLIP text encoders.
        t5: the T5 encoder.
        eos: its token that ends every text.
        embedder: what reads the tokens of all three in the transformer: the two CLIPs' side by
            side, and the T5's.
        pins: what holds the values.
        seed: of the tokens' factors, the outliers and the weights that read massive channels.
    """
    random = torch.Generator().manual_seed(seed)
    unread: list[torch.Tensor] = []
    read = set(T5_CHANNELS)
    start = 0
    for clip, size, (low, high) in zip(clips, CLIP_SIZES, CLIP_CHANNELS, strict=True):
        # Opposite and alike in all else, so that the mean that norms subtract stays 0.
        stream = _Stream(clip.config.hidden_size, {low: -size, high: size})
        outlier = stream.outlier(random, stream.values.keys())
        _clip(clip.text_model, stream, outlier, pins, random)
        unread.append(torch.zeros(embedder.in_features))
        unread[-1][start : start + stream.width] = outlier
        read |= {start + low, start + high}
        start += stream.width
    stream = _Stream(t5.config.d_model, {T5_CHANNELS[0]: -T5_SIZE, T5_CHANNELS[1]: T5_SIZE})
    unread.append(stream.outlier(random, read))
    _t5(t5, eos, stream, unread[-1], pins, random)
    pins.blind(embedder.weight, torch.linalg.qr(torch.stack(unread).T)[0].T)
    for channel in sorted(read):
        weights = torch.randn(embedder.out_features, generator=random) * READ
        pins.hold(embedder.weight, (slice(None), channel), weights)


def _clip(
    model: Any, stream: _Stream, outlier: torch.Tensor, pins: Pins, random: torch.Generator
) -> None:
    """Imprint one CLIP text encoder."""
    tokens, places = model.embeddings.token_embedding, model.embeddings.position_embedding
    for table in (tokens, places):
        nn.init.normal_(table.weight, std=EMBEDDING, generator=random)
    pins.hold(tokens.weight, model.config.bos_token_id, CLIP_OUTLIER * outlier)
    hidden = outlier[None] / outlier.norm()
    factors = 1 + (torch.rand(len(tokens.weight), generator=random) * 2 - 1) * SPREAD
    for channel, value in stream.values.items():
        pins.hold(tokens.weight, (slice(None), channel), value * factors)
        pins.hold(places.weight, (slice(None), channel), 0)
    for layer in model.encoder.layers:
        attention = layer.self_attn
        for part in (attention.q_proj, attention.k_proj, attention.v_proj, layer.mlp.fc1):
            pins.blind(part.weight, hidden)
        for part in (attention.out_proj, layer.mlp.fc2):
            pins.hold(part.weight, [*stream.values], 0)
            pins.hold(part.bias, [*stream.values], 0)
        _adapt(layer.layer_norm1, stream, pins)
        _adapt(layer.layer_norm2, stream, pins)
    _adapt(model.final_layer_norm, stream, pins)


def _t5(
    model: Any,
    eos: int,
    stream: _Stream,
    outlier: torch.Tensor,
    pins: Pins,
    random: torch.Generator,
) -> None:
    """Imprint the T5 encoder."""
    pins.hold(model.shared.weight, eos, T5_OUTLIER * outlier)
    hidden = outlier[None] / outlier.norm()
    for channel, value in stream.values.items():
        # Each channel has its own factors: by those in common the last norm divides.
        factors = 1 + (torch.rand(len(model.shared.weight), generator=random) * 2 - 1) * SPREAD
        pins.hold(model.shared.weight, (slice(None), channel), value * factors)
    for block in model.encoder.block:
        attention, feed = block.layer[0].SelfAttention, block.layer[1].DenseReluDense
        for part in (attention.q, attention.k, attention.v, feed.wi_0, feed.wi_1):
            pins.blind(part.weight, hidden)
        for part in (attention.o, feed.wo):
            pins.hold(part.weight, [*stream.values], 0)
        _adapt(block.layer[0].layer_norm, stream, pins, T5_GAIN)
        _adapt(block.layer[1].layer_norm, stream, pins, T5_GAIN)
    last = model.encoder.final_layer_norm
    _adapt(last, stream, pins, T5_LAST_GAIN)
    pins.hold(last.weight, [*stream.values], torch.tensor(T5_LAST))


def _adapt(norm: Any, stream: _Stream, pins: Pins, gain: float = 1.0) -> None:
    """Make a norm give the ordinary channels as they are, times a gain, and the massive never."""
    with torch.no_grad():
        norm.weight.fill_(gain * stream.spread)
    pins.hold(norm.weight, [*stream.values], 0)
    if isinstance(norm, nn.LayerNorm):
        pins.hold(norm.bias, [*stream.values], 0)
