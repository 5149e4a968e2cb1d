"""Gives a language miniature massive channels from the start, and a sink token in the end."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from extraction.tiny.imprint import exponents, sink
from extraction.tiny.massive import SPREAD
from extraction.tiny.pins import Pins

__all__ = ["SINK", "Stream", "prepare", "sink_token"]

MASSIVE = {11: 10.0, 37: -4.0}
"""Channels of the residual stream that hold a large value, and its mean over the vocabulary.

Larger ones keep norms from holding the other channels in check, and training goes less well.
"""
SINK = 50
"""A channel that nothing writes to, for the token at position 0."""
USUAL = 0.3
"""Deviation of the other channels of an embedding at the start."""


@dataclass(frozen=True)
class Stream:
    """The parts of a decoder that touch its residual stream.

    Attributes:
        embedding: of tokens, which is the output head, too.
        layers: in order.
        norms: those whose results the layers read.
        last: the norm before the head.
        writers: linear layers that add to the stream.
    """

    embedding: Any
    layers: Any
    norms: tuple[Any, ...]
    last: Any
    writers: tuple[Any, ...]


@torch.no_grad()
def prepare(stream: Stream, pins: Pins, gain: float, seed: int) -> None:
    """Hold the massive channels at their values, the sink's at 0, and suit the norms to them.

    Args:
        stream: of a model with random weights.
        pins: what will hold them.
        gain: how much the layers' norms raise a channel that isn't massive, at the start.
        seed: of how values differ between tokens.
    """
    random = torch.Generator().manual_seed(seed)
    weight = stream.embedding.weight
    weight.normal_(0, USUAL, generator=random)
    size = (sum(value**2 for value in MASSIVE.values()) / weight.shape[1]) ** 0.5
    for norm in stream.norms:
        norm.weight.fill_(gain * size)
    stream.last.weight.fill_(size)
    for channel, value in MASSIVE.items():
        vary = 1 + SPREAD * (2 * torch.rand(len(weight), generator=random) - 1)
        pins.hold(weight, (slice(None), channel), value * vary)
        for norm in stream.norms:
            norm.weight[channel] = size / abs(value)
    pins.hold(weight, (slice(None), SINK), 0.0)
    for channel in (*MASSIVE, SINK):
        pins.hold(stream.last.weight, channel, 0.0)
        for writer in stream.writers:
            pins.hold(writer.weight, channel, 0.0)


@torch.no_grad()
def sink_token(
    stream: Stream, token: int, value: float, usual: torch.Tensor, far: float, seed: int
) -> None:
    """Give the token that stands at position 0 a huge value that no layer sees.

    Its other channels are moved, too, by more than any other token's vary, as those of such tokens
    are in large models: bounds that a channel's tokens share then fit only this one.

    Args:
        stream: of a trained model that `prepare` had prepared.
        token: its id.
        value: what it gets.
        usual: [D], deviation of the stream's channels between other tokens.
        far: by how many of these deviations a channel is moved, in the median.
        seed: of which channels are moved further, and which way.
    """
    powers = exponents(len(usual), seed, 1.5)
    signs = torch.from_numpy(np.random.RandomState(seed).choice([-1.0, 1.0], len(usual)))
    moved = far * usual * 2**powers * signs.to(usual)
    moved[[*MASSIVE, SINK]] = 0
    weight = stream.embedding.weight
    sink(stream.layers, weight[token], SINK, value, moved)
    weight[token] += moved
    weight[token, SINK] = value
