"""What the ``vit_seg`` and ``vit_dep`` miniatures have in common: backbone, loop and files."""

import argparse
import json
import math
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors.torch import save_file
from torch import nn

from extraction.tiny.pins import Pins
from extraction.tiny.vit_massive import imprint
from lamofcbench.models import bundled_path
from lamofcbench.models.heads.dense import DenseHead
from lamofcbench.models.quiet import quiet
from lamofcbench.models.vit import Vit
from lamofcbench.spec import ProfileSpec, load_scenario

__all__ = ["Miniature", "run"]

LEARNING_RATE = 2e-3
WARM_UP = 50
CONFIG = {
    "patch_size": 8,
    "hidden_size": 96,
    "intermediate_size": 192,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_register_tokens": 4,
    "pos_embed_rescale": None,
}


class Miniature(ABC):
    """One miniature to be trained; see its two kinds.

    Attributes:
        name: its folder's.
        config: the config that it serves.
        image_size: the backbone's input, height and width.
    """

    name: str
    config: str
    image_size: tuple[int, int]
    batch: int

    @abstractmethod
    def head(self, dim: int, levels: int, prefix: int) -> DenseHead:
        """Make the head with random weights."""

    @abstractmethod
    def data(self, profile: ProfileSpec, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Draw what to train on: inputs [n, 3, height, width], and targets [n, ...]."""

    @abstractmethod
    def loss(self, answers: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Compare a head's answers with the targets."""

    @abstractmethod
    def evaluate(self, model: Vit, samples: int) -> dict[str, Any]:
        """Score a model on test samples through the plain pass, and an answer that sees nothing."""


def _train(
    miniature: Miniature, profile: ProfileSpec, seed: int, steps: int
) -> tuple[transformers.DINOv3ViTModel, DenseHead]:
    """Train a backbone and its head together."""
    # Images this small are prepared faster without threads.
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    inputs, targets = miniature.data(profile, seed)
    torch.set_num_threads(threads)
    torch.manual_seed(seed)
    random = torch.Generator().manual_seed(seed)
    size = list(miniature.image_size)
    backbone = transformers.DINOv3ViTModel(
        transformers.DINOv3ViTConfig(**CONFIG, image_size=size)  # type: ignore[arg-type]
    )
    blocks = backbone.config.num_hidden_layers
    prefix = 1 + backbone.config.num_register_tokens
    head = miniature.head(backbone.config.hidden_size, blocks, prefix)
    pins = Pins()
    imprint(backbone, head.levels.norms, pins, seed)  # type: ignore[arg-type]
    grid = (size[0] // CONFIG["patch_size"], size[1] // CONFIG["patch_size"])  # type: ignore[operator]
    parameters = [*backbone.parameters(), *head.parameters()]
    optimiser = torch.optim.AdamW(parameters, lr=LEARNING_RATE, weight_decay=0.05)
    pins.tie(optimiser)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser,
        lambda step: min((step + 1) / WARM_UP, 0.5 + 0.5 * math.cos(math.pi * step / steps)),
    )
    backbone.train()
    head.train()
    order = torch.empty(0, dtype=torch.int64)
    for _ in range(steps):
        if len(order) < miniature.batch:
            order = torch.randperm(len(inputs), generator=random)
        batch, order = order[: miniature.batch], order[miniature.batch :]
        states = backbone(inputs[batch], output_hidden_states=True).hidden_states
        # Half of the time the first levels are missing, as they are when a later one is injected.
        first = max(int(torch.randint(-blocks + 1, blocks, (1,), generator=random)), 0)
        answers = head({i: states[i + 1] for i in range(first, blocks)}, grid)
        loss = miniature.loss(answers, targets[batch])
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        schedule.step()
    return backbone, head


def _save(backbone: transformers.DINOv3ViTModel, head: DenseHead, folder: Path) -> None:
    """Round the weights to bfloat16, which halves the wheel's share, and write them."""
    folder.mkdir(parents=True, exist_ok=True)
    with quiet():
        backbone.to(torch.bfloat16).save_pretrained(folder)
    weights = {name: value.to(torch.bfloat16) for name, value in head.state_dict().items()}
    save_file(weights, folder / head.file, metadata={"format": "pt"})
    for path in folder.glob("*.safetensors"):
        path.chmod(0o644)  # safetensors makes them private, and a wheel would keep that


def run(miniature: Miniature, steps: int, arguments: Sequence[str] | None = None) -> None:
    """Train, save, and record the scores of what was saved.

    Args:
        miniature: which.
        steps: batches to train on by default.
        arguments: of the command line.
    """
    parser = argparse.ArgumentParser(description=f"Train the {miniature.name} miniature.")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=steps)
    parser.add_argument("--threads", type=int, default=1, help="other counts round otherwise")
    parser.add_argument("--folder", type=Path, default=bundled_path(miniature.name))
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    declared = load_scenario(miniature.config).profile("tiny")
    checkpoint = declared.model.model_copy(update={"id": str(options.folder)})
    profile = declared.model_copy(update={"model": checkpoint})

    start = time.process_time()
    backbone, head = _train(miniature, profile, options.seed, options.steps)
    seconds = time.process_time() - start
    _save(backbone, head, options.folder)
    model = Vit.load(profile)
    record: Mapping[str, Any] = {
        "seed": options.seed,
        "steps": options.steps,
        "threads": options.threads,
        "cpu_seconds": round(seconds),
        "parameters": model.parameters_total,
        "held_out": miniature.evaluate(model, profile.samples.test),
        "revision": model.revision,
    }
    text = json.dumps(record, indent=2)
    (options.folder / "training.json").write_text(text + "\n", "utf-8")
    print(text)
