"""Trains the ``llm`` miniature: a Qwen3 of six layers, on five toy tasks.

Run ``python -m extraction.tiny.llm``. On one machine the same seed gives the same weights.
"""

import argparse
import time
from collections.abc import Sequence
from typing import Any

import torch
import transformers

from extraction.tiny.text import (
    build_tokenizer,
    evaluate,
    profile_of,
    record,
    save,
    special_ids,
    train,
)
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


def main(arguments: Sequence[str] | None = None) -> None:
    """Train, save, and record the scores of what was saved."""
    parser = argparse.ArgumentParser(description="Train the llm miniature.")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--threads", type=int, default=1, help="other counts round otherwise")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    tokenizer = build_tokenizer()
    model = build(tokenizer)
    began = time.monotonic()
    train(model, tokenizer, options.seed, options.steps, rate=3e-3)
    seconds = time.monotonic() - began
    folder = save(model, tokenizer, "llm")
    saved = Llm.load(profile_of("arc", "llm"))
    record(
        folder,
        seed=options.seed,
        steps=options.steps,
        threads=options.threads,
        seconds=round(seconds),
        parameters=saved.parameters_total,
        held_out=evaluate(saved, "llm"),
        revision=saved.revision,
    )


if __name__ == "__main__":
    main()
