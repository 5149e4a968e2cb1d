"""Gives a trained model features like a large one's, without changing what it computes.

Channels of keys, values and convolution states get uneven scales, and one token a huge value that
all layers ignore. Scales are powers of two, so that they commute with rounding: done before weights
are rounded, they leave the rounded model's logits as they were, bit for bit.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch

__all__ = [
    "exponents",
    "imprint_attention",
    "imprint_convolutions",
    "scale_convolution",
    "scale_keys",
    "scale_values",
    "sink",
]


def exponents(count: int, seed: int | tuple[int, ...], spread: float = 1.0) -> torch.Tensor:
    """Powers of two for some channels, with the tails of a Laplace distribution.

    They are its quantiles in a random order, so that each draw has its outliers: with the usual
    spread, of 8 channels one is 4 times as large as most, and of 32 one is 8 times as large.

    Args:
        count: of channels.
        seed: of the order.
        spread: mean absolute exponent, about.

    Returns:
        Whole numbers, float32 [count].
    """
    places = (np.random.RandomState(seed).permutation(count) + 0.5) / count - 0.5
    drawn = -spread * np.sign(places) * np.log1p(-2 * np.abs(places))
    return torch.from_numpy(np.round(drawn)).float()


@torch.no_grad()
def _scale(linear: Any, scales: torch.Tensor) -> None:
    """Scale what a linear layer gives."""
    linear.weight *= scales[:, None]
    if linear.bias is not None:
        linear.bias *= scales


@torch.no_grad()
def scale_values(attention: Any, powers: torch.Tensor) -> None:
    """Scale an attention's values, and undo that where they are read.

    Args:
        attention: of Qwen2, Qwen3 or Qwen3-VL's kind.
        powers: exponents of two, [heads of keys and values, head size].
    """
    heads, size = powers.shape
    shared = attention.o_proj.weight.shape[1] // (heads * size)
    _scale(attention.v_proj, 2 ** powers.flatten())
    attention.o_proj.weight *= 2 ** -powers.repeat_interleave(shared, 0).flatten()


@torch.no_grad()
def scale_keys(attention: Any, powers: torch.Tensor) -> None:
    """Scale an attention's keys, and undo that in the queries.

    Both members of a pair that the rotary embedding turns, channels i and i + size / 2, get the
    same scale, so that turning commutes with it.

    Args:
        attention: of Qwen2, Qwen3 or Qwen3-VL's kind.
        powers: exponents of two, [heads of keys, head size / 2]; where keys have a norm, whose
            weights all heads share, only one row.

    Raises:
        ValueError: several rows for keys with a norm.
    """
    scales = 2 ** torch.cat([powers, powers], 1)
    if (norm := getattr(attention, "k_norm", None)) is not None:
        if len(scales) != 1:
            raise ValueError(f"all heads share the norm of keys; got {len(scales)} rows")
        norm.weight *= scales[0]
        attention.q_norm.weight /= scales[0]
        return
    shared = attention.q_proj.weight.shape[0] // scales.numel()
    _scale(attention.k_proj, scales.flatten())
    _scale(attention.q_proj, 1 / scales.repeat_interleave(shared, 0).flatten())


@torch.no_grad()
def scale_convolution(mixer: Any, powers: torch.Tensor) -> None:
    """Scale what a Mamba mixer's convolution, and so its state, gets; undo that in its kernels.

    Args:
        mixer: of Mamba's or Falcon-Mamba's kind.
        powers: exponents of two, [channels].
    """
    # The second half is the gate.
    _scale(mixer.in_proj, torch.cat([2**powers, torch.ones_like(powers)]))
    mixer.conv1d.weight *= 2 ** -powers[:, None, None]


def imprint_attention(
    layers: Iterable[Any], seed: int, keys: float = 1.0, values: float = 1.0
) -> None:
    """Scale keys and values of all layers of a decoder.

    Args:
        layers: a decoder's.
        seed: of all draws.
        keys: spread of the exponents of keys; see `exponents`.
        values: of those of values.
    """
    for i, layer in enumerate(layers):
        attention = layer.self_attn
        size = attention.head_dim
        heads = attention.k_proj.weight.shape[0] // size
        rows = heads if getattr(attention, "k_norm", None) is None else 1
        drawn = exponents(rows * size // 2, (seed, i, 0), keys)
        scale_keys(attention, drawn.view(rows, -1))
        scale_values(attention, exponents(heads * size, (seed, i, 1), values).view(heads, -1))


def imprint_convolutions(layers: Iterable[Any], seed: int, spread: float = 1.0) -> None:
    """Scale the convolution states of all layers of a Mamba; see `exponents`."""
    for i, layer in enumerate(layers):
        channels = layer.mixer.conv1d.weight.shape[0]
        scale_convolution(layer.mixer, exponents(channels, (seed, i), spread))


@torch.no_grad()
def _solve(
    norm: Any, readers: Iterable[Any], channel: int, plain: torch.Tensor, sunk: torch.Tensor
) -> None:
    """Make what reads a norm get from one vector what it gets from another.

    Args:
        norm: a root mean square norm, whose weight of the channel is not 0.
        readers: linear layers.
        channel: whose column is free.
        plain: [D], with 0 in the channel.
        sunk: [D], with a huge value there.
    """
    before, after = norm(plain), norm(sunk)
    strength = after[channel].item()
    after[channel] = 0
    for reader in readers:
        # In double precision, for what is left is the small difference of large sums.
        lost = reader.weight.double() @ (before - after).double()
        reader.weight[:, channel] = lost / strength


@torch.no_grad()
def sink(
    layers: Iterable[Any],
    vector: torch.Tensor,
    channel: int,
    value: float,
    others: torch.Tensor | None = None,
) -> None:
    """Let the token at position 0 have a huge value in a channel, unseen by all layers.

    The value shrinks that token's other channels in each norm. What reads the norm gets a column
    for the channel that makes up for it; the column meets 0 in every other token. So keys, values
    and what all layers write stay as they were, up to rounding. In the same way that token's other
    channels can be moved as far as one likes, if less far.

    Args:
        layers: of a decoder of Qwen2, Qwen3 or Qwen3-VL's kind, or a Falcon-Mamba's, in evaluation
            mode, float32.
        vector: [D], what the layers get at position 0 now; no other token may have a value other
            than 0 in the channel. The caller puts ``value`` into the token's embedding.
        channel: one that nothing writes to.
        value: what that position gets there.
        others: [D], how far its other channels are moved, 0 in the channel; the caller adds this to
            the token's embedding, too.

    Raises:
        ValueError: the channel is in use.
    """
    plain = vector.detach().clone()
    if plain[channel] != 0:
        raise ValueError(f"channel {channel} is not 0 at position 0")
    moved = torch.zeros_like(plain) if others is None else others.detach().clone()
    moved[channel] = value
    for layer in layers:
        sunk = plain + moved
        if hasattr(layer, "mixer"):
            written = [layer.mixer.out_proj]
            _solve(layer.norm, [layer.mixer.in_proj], channel, plain, sunk)
            arguments = {}
        else:
            attention, mlp = layer.self_attn, layer.mlp
            written = [attention.o_proj, mlp.down_proj]
            # Position 0 looks at itself alone, so its query doesn't matter.
            read = [attention.k_proj, attention.v_proj]
            _solve(layer.input_layernorm, read, channel, plain, sunk)
            still = torch.ones(1, 1, attention.head_dim)
            arguments = {"position_embeddings": (still, 0 * still)}
            half = plain + attention(
                layer.input_layernorm(plain)[None, None], attention_mask=None, **arguments
            )[0].view(-1)
            read = [mlp.gate_proj, mlp.up_proj]
            _solve(layer.post_attention_layernorm, read, channel, half, half + moved)
        if any(linear.weight[channel].any() for linear in written):
            raise ValueError(f"a layer writes to channel {channel}")
        # New columns meet 0 here, so this is the stream as it was before.
        plain = layer(plain[None, None], **arguments).view(-1)
