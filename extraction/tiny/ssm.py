"""Trains the ``ssm`` miniature: a Falcon-Mamba of six layers, on five toy tasks.

Run ``python -m extraction.tiny.ssm``. On one machine the same seed gives the same weights.
"""

from collections.abc import Sequence
from typing import Any

import transformers

from extraction.tiny.imprint import imprint_convolutions
from extraction.tiny.scan import fast_scan
from extraction.tiny.stream import Stream
from extraction.tiny.text import TASKS, Recipe, run, special_ids
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


def stream(model: Any) -> Stream:
    """The parts of a Falcon-Mamba."""
    layers = model.backbone.layers
    return Stream(
        embedding=model.backbone.embeddings,
        layers=layers,
        norms=tuple(layer.norm for layer in layers),
        last=model.backbone.norm_f,
        writers=tuple(layer.mixer.out_proj for layer in layers),
    )


RECIPE = Recipe(
    name="ssm",
    family=Ssm,
    build=build,
    stream=stream,
    imprint=lambda parts, seed: imprint_convolutions(parts.layers, seed, 0.5),
    tasks=(*TASKS, "hellaswag", "gsm8k", "gsm8k"),
    steps=750,
    gain=2.0,
    sink=3000.0,
    far=8.0,
    training=fast_scan,
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Train, save, and record the scores of what was saved."""
    with quiet():
        run(RECIPE, arguments)


if __name__ == "__main__":
    main()
