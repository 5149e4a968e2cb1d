"""Trains the ``ssm`` miniature: a Falcon-Mamba of six layers, on five toy tasks.

Run ``python -m extraction.tiny.ssm``. On one machine the same seed gives the same weights.
"""

import argparse
import time
from collections.abc import Sequence
from typing import Any

import torch
import transformers

from extraction.tiny.scan import fast_scan
from extraction.tiny.text import (
    build_tokenizer,
    evaluate,
    profile_of,
    record,
    save,
    special_ids,
    train,
)
from lamofcbench.models.quiet import quiet
from lamofcbench.models.ssm import Ssm

__all__ = ["main"]

CONFIG: dict[str, Any] = {
    "hidden_size": 64,
    "state_size": 16,
    "num_hidden_layers": 6,
    "expand": 2,
    "conv_kernel": 4,
    "time_step_rank": 4,
    "tie_word_embeddings": True,
}


def build(tokenizer: Any) -> Any:
    """A Falcon-Mamba with random weights."""
    return transformers.FalconMambaForCausalLM(
        transformers.FalconMambaConfig(**CONFIG, **special_ids(tokenizer))
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Train, save, and record the scores of what was saved."""
    parser = argparse.ArgumentParser(description="Train the ssm miniature.")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=800)
    parser.add_argument("--threads", type=int, default=1, help="other counts round otherwise")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    tokenizer = build_tokenizer()
    model = build(tokenizer)
    began = time.monotonic()
    with quiet(), fast_scan():
        train(model, tokenizer, options.seed, options.steps, rate=3e-3)
    seconds = time.monotonic() - began
    folder = save(model, tokenizer, "ssm")
    saved = Ssm.load(profile_of("arc", "ssm"))
    record(
        folder,
        seed=options.seed,
        steps=options.steps,
        threads=options.threads,
        seconds=round(seconds),
        parameters=saved.parameters_total,
        held_out=evaluate(saved, "ssm"),
        revision=saved.revision,
    )


if __name__ == "__main__":
    main()
