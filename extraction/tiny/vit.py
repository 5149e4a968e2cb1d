"""Trains the ``vit`` miniature: a DINOv3 of four blocks, and its classifier, on digits.

Run ``python -m extraction.tiny.vit``. On one machine the same seed gives the same weights.
"""

import argparse
import json
import math
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import transformers
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional as F

from extraction.sources import SOURCES
from extraction.sources.digits import load_images, partition
from extraction.tiny.pins import Pins
from extraction.tiny.vit_massive import imprint
from lamofcbench.models import bundled_path
from lamofcbench.models.heads.linear import LinearHead
from lamofcbench.models.quiet import quiet
from lamofcbench.models.vit import Vit
from lamofcbench.models.vit_inputs import Preprocess
from lamofcbench.scores.classes import restricted_classes
from lamofcbench.scores.top1 import top1
from lamofcbench.spec import ProfileSpec, load_scenario

__all__ = ["evaluate", "main", "train"]

CLASSES = 10
BATCH = 128
LEARNING_RATE = 2e-3
WARM_UP = 50
CONFIG = {
    "image_size": 32,
    "patch_size": 8,
    "hidden_size": 96,
    "intermediate_size": 192,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_register_tokens": 4,
    # The published models jitter positions in training; the shifts below do that work here.
    "pos_embed_rescale": None,
}


def _augment(pixels: torch.Tensor, random: torch.Generator) -> torch.Tensor:
    """Turn, scale, shift and dim each image a little: 1409 of them are soon learned by heart."""
    turn, scale, right, down = torch.rand(4, len(pixels), generator=random) * 2 - 1
    turn, scale = turn * math.radians(12), 1 + scale * 0.1
    cos, sin = torch.cos(turn) * scale, torch.sin(turn) * scale
    rows = [torch.stack([cos, -sin, right * 0.15], 1), torch.stack([sin, cos, down * 0.15], 1)]
    grid = F.affine_grid(torch.stack(rows, 1), list(pixels.shape), align_corners=False)
    moved = F.grid_sample(pixels, grid, padding_mode="border", align_corners=False)
    # Norms that massive channels rule don't undo contrast.
    contrast, lift = torch.rand(2, len(pixels), 1, 1, 1, generator=random)
    return moved * (0.5 + contrast / 2) + lift * 0.5 - 0.25


def train(
    profile: ProfileSpec, seed: int, steps: int
) -> tuple[transformers.DINOv3ViTModel, LinearHead]:
    """Train a backbone and its head together on the training part of the digits.

    Args:
        profile: whose preprocessing to train with.
        seed: of the weights, the batches and the augmentation.
        steps: batches to train on.

    Returns:
        Both in float32.
    """
    torch.manual_seed(seed)
    random = torch.Generator().manual_seed(seed)
    backbone = transformers.DINOv3ViTModel(transformers.DINOv3ViTConfig(**CONFIG))
    dim = backbone.config.hidden_size
    head = LinearHead(
        torch.randn(CLASSES, 2 * dim) * 0.02,
        torch.zeros(CLASSES),
        1 + backbone.config.num_register_tokens,
    )
    pins = Pins()
    imprint(backbone, (), pins, seed)
    images, labels = load_images()
    indices = partition()[0]
    preprocess = Preprocess.declared(profile)
    pixels = torch.cat([preprocess(images[index]) for index in indices])
    targets = torch.from_numpy(labels[indices])

    parameters = [*backbone.parameters(), *head.parameters()]
    optimiser = torch.optim.AdamW(parameters, lr=LEARNING_RATE, weight_decay=0.05)
    pins.tie(optimiser)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser,
        lambda step: min((step + 1) / WARM_UP, 0.5 + 0.5 * math.cos(math.pi * step / steps)),
    )
    backbone.train()
    order = torch.empty(0, dtype=torch.int64)
    for _ in range(steps):
        if len(order) < BATCH:
            order = torch.randperm(len(pixels), generator=random)
        batch, order = order[:BATCH], order[BATCH:]
        tokens = backbone(_augment(pixels[batch], random)).last_hidden_state
        loss = F.cross_entropy(head(tokens), targets[batch], label_smoothing=0.05)
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        schedule.step()
    return backbone, head


def evaluate(model: Vit, config: str = "in1k-vit") -> tuple[float, float]:
    """Score a model on a config's test split through the plain forward pass.

    Args:
        model: serves a profile of that config.
        config: says among which classes answers are chosen.

    Returns:
        Its top-1 accuracy, and that of always answering the commonest label.
    """
    profile = model.profile
    source = SOURCES.load(profile.source.name)(profile)
    samples = source.select("test", profile.samples.test)
    labels = np.array([sample.reference["label"] for sample in samples])
    logits = [model.plain(sample.inputs).logits.numpy() for sample in samples]
    score = top1(logits, labels, restricted_classes(config, "tiny"))
    return score, float(np.bincount(labels).max() / len(labels))


def _save(backbone: transformers.DINOv3ViTModel, head: LinearHead, folder: Path) -> None:
    """Round the weights to bfloat16, which halves the wheel's share, and write them."""
    folder.mkdir(parents=True, exist_ok=True)
    with quiet():
        backbone.to(torch.bfloat16).save_pretrained(folder)
    weights = {name: value.to(torch.bfloat16) for name, value in head.state_dict().items()}
    save_file(weights, folder / LinearHead.file, metadata={"format": "pt"})
    for path in folder.glob("*.safetensors"):
        path.chmod(0o644)  # safetensors makes them private, and a wheel would keep that


def main(arguments: Sequence[str] | None = None) -> None:
    """Train, save, and record the score of what was saved."""
    parser = argparse.ArgumentParser(description="Train the vit miniature.")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--threads", type=int, default=1, help="other counts round otherwise")
    parser.add_argument("--folder", type=Path, default=bundled_path("vit"))
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)

    def profile_of(config: str) -> ProfileSpec:
        declared = load_scenario(config).profile("tiny")
        checkpoint = declared.model.model_copy(update={"id": str(options.folder)})
        return declared.model_copy(update={"model": checkpoint})

    profile = profile_of("in1k-vit")
    start = time.process_time()
    backbone, head = train(profile, options.seed, options.steps)
    seconds = time.process_time() - start
    _save(backbone, head, options.folder)
    model = Vit.load(profile)
    score, baseline = evaluate(model)
    variants = {c: evaluate(Vit.load(profile_of(c)), c) for c in ("in1ka-vit", "in1kr-vit")}
    record = {
        "seed": options.seed,
        "steps": options.steps,
        "threads": options.threads,
        "cpu_seconds": round(seconds),
        "parameters": model.parameters_total,
        "held_out": {"metric": "top1", "samples": profile.samples.test, "score": score},
        "majority_baseline": baseline,
        "variants": {
            config: {"score": score, "majority_baseline": baseline}
            for config, (score, baseline) in variants.items()
        },
        "revision": model.revision,
    }
    text = json.dumps(record, indent=2)
    (options.folder / "training.json").write_text(text + "\n", "utf-8")
    print(text)


if __name__ == "__main__":
    main()
