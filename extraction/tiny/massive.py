"""Gives a decoder channels of the residual stream that hold large, nearly constant values.

Large models have them, and a codec stands or falls by them. They cannot be put in afterwards, since
a norm mixes all channels: they have to be there from the start of training.
"""

from collections.abc import Callable, Collection, Mapping
from typing import Any

import torch

from extraction.tiny.pins import Pins

__all__ = ["SPREAD", "balance", "hold_channels", "hold_loud", "spread"]

SPREAD = 0.25
"""Values of a massive channel lie within this share of their centre."""


def spread(centre: float, count: int) -> torch.Tensor:
    """Draw values [count] around ``centre``, from torch's global generator."""
    return centre * (1 + SPREAD * (2 * torch.rand(count) - 1))


def hold_channels(pins: Pins, text: Any, channels: Mapping[int, torch.Tensor | float]) -> None:
    """Keep channels of the residual stream as the embeddings set them.

    Args:
        pins: holds the parameters.
        text: the library's text model; its head is tied to its embeddings.
        channels: per channel what embeddings hold there: a value per token [vocabulary], or one.
    """
    for channel, values in channels.items():
        pins.hold(text.embed_tokens.weight, (slice(None), channel), values)
        # The head is the embeddings: without this, logits would be these values and little else.
        pins.hold(text.norm.weight, channel, 0.0)
        for layer in text.layers:
            pins.hold(layer.self_attn.o_proj.weight, channel, 0.0)
            pins.hold(layer.mlp.down_proj.weight, channel, 0.0)


def hold_loud(
    pins: Pins, text: Any, token: int, size: float, count: int, channels: Collection[int]
) -> None:
    """Let a token have large values in many channels, so that its keys and values stand out, too.

    Delimiters of large models are like that. They widen the range of every channel.

    Args:
        pins: holds the embedding.
        text: as for `hold_channels`.
        token: its id.
        size: of a value, whose sign is drawn.
        count: of channels, drawn.
        channels: those to leave alone.
    """
    free = [i for i in torch.randperm(text.config.hidden_size).tolist() if i not in channels]
    values = size * (1 - 2 * torch.randint(2, (count,)))
    pins.hold(text.embed_tokens.weight, (token, torch.tensor(free[:count])), values)


def balance(text: Any, channels: Collection[int], run: Callable[[], Any]) -> None:
    """Scale the weights of norms so that what leaves them is as large as without massive channels.

    Args:
        text: as for `hold_channels`.
        channels: those whose size is not to count; where norms read them, weights stay as they are.
        run: runs the model once on some batch, without gradients.
    """
    kept = [i for i in range(text.config.hidden_size) if i not in channels]

    def scale(norm: Any, inputs: tuple[torch.Tensor, ...]) -> None:
        stream = inputs[0].flatten(0, -2)
        factor = stream.square().mean(1) / stream[:, kept].square().mean(1)
        norm.weight[kept] *= factor.median().sqrt()  # padding, without massive values, is no norm

    norms = [
        n for layer in text.layers for n in (layer.input_layernorm, layer.post_attention_layernorm)
    ]
    hooks = [norm.register_forward_pre_hook(scale) for norm in (*norms, text.norm)]
    with torch.no_grad():
        run()
    for hook in hooks:
        hook.remove()
