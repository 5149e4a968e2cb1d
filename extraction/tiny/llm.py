"""Trains the ``llm`` miniature: a Qwen3 of six layers, on five toy tasks.

Run ``python -m extraction.tiny.llm``. On one machine the same seed gives the same weights.
"""

from collections.abc import Sequence
from typing import Any

import torch
import transformers

from extraction.tiny.imprint import imprint_attention
from extraction.tiny.stream import Stream
from extraction.tiny.text import TASKS, Recipe, run, special_ids
from lamofcbench.models.llm import Llm

__all__ = ["main"]

CONFIG: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 160,
    "num_hidden_layers": 6,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 512,
    "tie_word_embeddings": True,
    "initializer_range": 0.08,
}


def build(tokenizer: Any) -> Any:
    """A Qwen3 with random weights."""
    model = transformers.Qwen3ForCausalLM(
        transformers.Qwen3Config(**CONFIG, **special_ids(tokenizer))
    )
    # Norms of 1 bound attention scores to 4 at this head size, too flat to pick one token of 100.
    for layer in model.model.layers:
        torch.nn.init.constant_(layer.self_attn.q_norm.weight, 2.0)
        torch.nn.init.constant_(layer.self_attn.k_norm.weight, 1.5)
    return model


def stream(model: Any) -> Stream:
    """The parts of a Qwen3."""
    layers = model.model.layers
    return Stream(
        embedding=model.model.embed_tokens,
        layers=layers,
        norms=tuple(n for x in layers for n in (x.input_layernorm, x.post_attention_layernorm)),
        last=model.model.norm,
        writers=tuple(w for x in layers for w in (x.self_attn.o_proj, x.mlp.down_proj)),
    )


RECIPE = Recipe(
    name="llm",
    family=Llm,
    build=build,
    stream=stream,
    imprint=lambda parts, seed: imprint_attention(parts.layers, seed, values=0.5),
    tasks=(*TASKS, "hellaswag", "gsm8k"),
    steps=800,
    gain=2.0,
    sink=3000.0,
    far=3.0,
    reordered=True,
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Train, save, and record the scores of what was saved."""
    run(RECIPE, arguments)


if __name__ == "__main__":
    main()
