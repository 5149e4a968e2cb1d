"""Trains the ``t2i`` miniature on digits: an autoencoder, then all that conditions and denoises.

Run ``python -m extraction.tiny.t2i``. On one machine the same seed gives the same weights. The text
encoders start at random and are trained together with the transformer and the ControlNet.
"""

import argparse
import itertools
import json
import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from extraction.sources.digits import load_images, partition
from extraction.sources.digits_t2i import INKS, SIZE, TEMPLATES, caption
from extraction.tiny.imprint_t2i import scale_pooled
from extraction.tiny.pins import Pins
from extraction.tiny.t2i_massive import imprint
from extraction.tiny.t2i_parts import (
    TOKENS,
    build_diffusion,
    build_text,
    build_tokenizers,
    build_vae,
)
from extraction.tiny.t2i_score import evaluate
from lamofcbench.models import bundled_path
from lamofcbench.models.control import Edges
from lamofcbench.models.quiet import quiet
from lamofcbench.models.t2i import T2i, condition
from lamofcbench.spec import load_scenario

__all__ = ["main", "train"]

POOL = 6000
"""Training pictures: digits turned and shifted, each in one ink."""
VAE_BATCH = 32
CONTROLS = 8
"""Edges in a batch for the autoencoder: fewer than pictures, whose colours they would drown."""
BATCH = 32
POOLED_ROWS = (5, 23)
POOLED_EXPONENT = 3
"""Which entry of each CLIP's pooled vector is an outlier, and by which power of two."""
UNCAPTIONED = 0.1
"""Share of samples that train without a caption, which guidance needs."""
MISSING = 0.25
"""Share of samples in which a part of the encoded caption is that of the empty text, each part by
itself, or the pooled vectors alone would say all. The published model was trained with parts
missing too."""
EDGES = Edges(SIZE, 50, 150)


@dataclass(frozen=True)
class Pool:
    """Pictures to train on.

    Attributes:
        pictures: float32 [n, 3, size, size] in -1..1.
        controls: their edges, alike.
        captions: a few per picture, of which each step draws one.
    """

    pictures: torch.Tensor
    controls: torch.Tensor
    captions: list[tuple[str, ...]]


def make_pool(seed: int, count: int) -> Pool:
    """Turn, scale and shift training digits a little, colour them and find their edges."""
    random = torch.Generator().manual_seed(seed)
    images, labels = load_images()
    training = torch.from_numpy(partition()[0])
    chosen = training[torch.randint(len(training), (count,), generator=random)].numpy()
    grey = torch.from_numpy(images[chosen]).float()[:, None] / 255
    grey = F.interpolate(grey, (SIZE, SIZE), mode="bicubic").clamp(0, 1)
    turn, scale, right, down = torch.rand(4, count, generator=random) * 2 - 1
    turn, scale = turn * math.radians(10), 1 + scale * 0.1
    cos, sin = torch.cos(turn) * scale, torch.sin(turn) * scale
    rows = [torch.stack([cos, -sin, right * 0.1], 1), torch.stack([sin, cos, down * 0.1], 1)]
    grid = F.affine_grid(torch.stack(rows, 1), list(grey.shape), align_corners=False)
    grey = F.grid_sample(grey, grid, align_corners=False)
    inks = torch.randint(len(INKS), (count,), generator=random)
    colours = torch.tensor(list(INKS.values()))[inks].float()
    pictures = (grey * colours[:, :, None, None]).round()
    edges = [EDGES(p.permute(1, 2, 0).byte().numpy()) for p in pictures]
    controls = torch.from_numpy(np.stack(edges)).float()[:, None].expand(-1, 3, -1, -1)
    names = tuple(INKS)
    captions = [
        tuple(caption(int(labels[digit]), names[ink], t) for t in range(len(TEMPLATES)))
        for digit, ink in zip(chosen, inks.tolist(), strict=True)
    ]
    return Pool(pictures / 127.5 - 1, controls * 2 - 1, captions)


def _fit(
    parameters: Iterable[nn.Parameter],
    steps: int,
    rate: float,
    loss_of: Any,
    what: str,
    pins: Pins | None = None,
) -> None:
    """Minimise a loss with AdamW, a warm-up and a cosine."""
    parameters = list(parameters)
    optimiser = torch.optim.AdamW(parameters, lr=rate, weight_decay=0.01, betas=(0.9, 0.98))
    if pins is not None:
        pins.tie(optimiser)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda i: min((i + 1) / 50, 0.02 + 0.49 * (1 + math.cos(math.pi * i / steps)))
    )
    for step in range(steps):
        loss = loss_of()
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        schedule.step()
        if step % 100 == 0 or step == steps - 1:
            print(f"{what}: step {step} of {steps}: loss {loss.item():.4f}", flush=True)


def train_vae(pool: Pool, seed: int, steps: int) -> Any:
    """Train the autoencoder on pictures and edges; scale its latents to unit deviation."""
    random = torch.Generator().manual_seed(seed)
    vae = build_vae()

    def loss() -> torch.Tensor:
        rows = torch.randint(POOL, (VAE_BATCH,), generator=random)
        batch = torch.cat([pool.controls[rows[:CONTROLS]], pool.pictures[rows[CONTROLS:]]])
        posterior = vae.encode(batch).latent_dist
        noise = torch.randn(posterior.mean.shape, generator=random)
        again = vae.decode(posterior.mean + posterior.std * noise).sample
        kl = (posterior.mean**2 + posterior.var - 1 - posterior.logvar).mean() / 2
        return F.mse_loss(again, batch) + 1e-4 * kl

    _fit(vae.parameters(), steps, 8e-3, loss, "autoencoder")
    with torch.no_grad():
        latents = vae.encode(pool.pictures[:1000]).latent_dist.mean
    vae.register_to_config(
        shift_factor=round(float(latents.mean()), 4),
        scaling_factor=round(1 / float(latents.std()), 4),
    )
    return vae.eval().requires_grad_(False)


def _moments(vae: Any, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    with torch.no_grad():
        found = [vae.encode(batch).latent_dist for batch in pixels.split(256)]
    return torch.cat([p.mean for p in found]), torch.cat([p.std for p in found])


def train(seed: int, vae_steps: int, steps: int) -> dict[str, Any]:
    """Train all parts.

    Args:
        seed: of the weights, the pictures, the batches and the noise.
        vae_steps: batches for the autoencoder.
        steps: batches for the rest.

    Returns:
        The parts by the names that diffusers' pipeline gives them, in float32.
    """
    torch.manual_seed(seed)
    random = torch.Generator().manual_seed(seed)
    pool = make_pool(seed, POOL)
    vae = train_vae(pool, seed, vae_steps)
    shift, scale = vae.config.shift_factor, vae.config.scaling_factor
    pictures, controls = _moments(vae, pool.pictures), _moments(vae, pool.controls)
    clip, t5 = build_tokenizers()
    encoders = build_text(clip, t5)
    transformer, controlnet, scheduler = build_diffusion()
    pins = Pins()
    imprint(encoders[:2], encoders[2], t5.eos_token_id, transformer.context_embedder, pins, seed)
    # Trained from nothing together, so the zeros that protect a finished transformer only delay.
    for layer in (*controlnet.controlnet_blocks, controlnet.pos_embed_input.proj):
        nn.init.normal_(layer.weight, std=0.05)

    def embed(texts: list[str], missing: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Encode texts; where a part is missing, [parts, batch], it is that of the empty text."""
        unique = sorted({*texts, ""})
        first = clip(unique, padding="max_length", max_length=TOKENS, return_tensors="pt").input_ids
        third = t5(unique, padding="max_length", max_length=TOKENS, return_tensors="pt").input_ids
        a, b = (encoder(first, output_hidden_states=True) for encoder in encoders[:2])
        parts = (a.hidden_states[-2], b.hidden_states[-2], a[0], b[0], encoders[2](third)[0])
        shown = torch.tensor([unique.index(text) for text in texts])
        chosen = torch.where(missing, unique.index(""), shown)
        taken = [part[rows] for part, rows in zip(parts, chosen, strict=True)]
        return condition(taken[:2], taken[2:4], taken[4])

    def sample(moments: tuple[torch.Tensor, torch.Tensor], rows: torch.Tensor) -> torch.Tensor:
        mean, std = (part[rows] for part in moments)
        return (mean + std * torch.randn(mean.shape, generator=random) - shift) * scale

    def loss() -> torch.Tensor:
        rows = torch.randint(POOL, (BATCH,), generator=random)
        draws = torch.rand(2, BATCH, generator=random)
        texts = [
            "" if drop < UNCAPTIONED else pool.captions[row][int(pick * len(TEMPLATES))]
            for row, drop, pick in zip(rows.tolist(), *draws.tolist(), strict=True)
        ]
        tokens, pooled = embed(texts, torch.rand(5, BATCH, generator=random) < MISSING)
        clean, control = sample(pictures, rows), sample(controls, rows)
        noise = torch.randn(clean.shape, generator=random)
        sigma = torch.sigmoid(torch.randn(BATCH, generator=random) * 1.2)
        noisy = torch.lerp(clean, noise, sigma[:, None, None, None])
        # As the pipeline does where a ControlNet has no patch embedding of its own.
        controlnet.pos_embed = transformer.pos_embed
        hints = controlnet(
            noisy, control, pooled_projections=pooled, timestep=sigma * 1000, return_dict=False
        )[0]
        velocity = transformer(
            noisy, tokens, pooled, sigma * 1000, block_controlnet_hidden_states=hints
        ).sample
        return F.mse_loss(velocity, noise - clean)

    modules = [*encoders, transformer, controlnet]
    weights = itertools.chain(*(m.parameters() for m in modules))
    _fit(weights, steps, 3e-3, loss, "diffusion", pins)
    controlnet.pos_embed = None
    names = ("text_encoder", "text_encoder_2", "text_encoder_3", "transformer", "controlnet")
    parts = dict(zip(names, modules, strict=True))
    scale_pooled(parts, POOLED_ROWS, POOLED_EXPONENT)
    parts |= {"tokenizer": clip, "tokenizer_2": clip, "tokenizer_3": t5}
    return {**parts, "vae": vae, "scheduler": scheduler}


def save(parts: dict[str, Any], folder: Path) -> None:
    """Round the weights to float16, as the published ones are, and write diffusers' layout."""
    folder.mkdir(parents=True, exist_ok=True)
    index: dict[str, Any] = {"_class_name": "StableDiffusion3ControlNetPipeline"}
    with quiet("diffusers"):
        for name, part in sorted(parts.items()):
            if isinstance(part, nn.Module):
                part = part.to(torch.float16)
            part.save_pretrained(folder / name)
            library = "diffusers" if "diffusers" in type(part).__module__ else "transformers"
            index[name] = [library, type(part).__name__]
    (folder / "model_index.json").write_text(json.dumps(index, indent=2) + "\n", "utf-8")
    for path in folder.rglob("*.safetensors"):
        path.chmod(0o644)  # safetensors makes them private, and a wheel would keep that


def main(arguments: Sequence[str] | None = None) -> None:
    """Train, save, and record the scores of what was saved."""
    parser = argparse.ArgumentParser(description="Train the t2i miniature.")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--vae-steps", type=int, default=600)
    parser.add_argument("--steps", type=int, default=1060)
    parser.add_argument("--threads", type=int, default=1, help="other counts round otherwise")
    parser.add_argument("--folder", type=Path, default=bundled_path("t2i"))
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    start = time.process_time()
    parts = train(options.seed, options.vae_steps, options.steps)
    seconds = time.process_time() - start
    save(parts, options.folder)
    declared = load_scenario("canny-t2i").profile("tiny")
    checkpoint = declared.model.model_copy(update={"id": str(options.folder)})
    model = T2i.load(declared.model_copy(update={"model": checkpoint}))
    record = {
        "seed": options.seed,
        "vae_steps": options.vae_steps,
        "steps": options.steps,
        "threads": options.threads,
        "cpu_seconds": round(seconds),
        "parameters": model.parameters_total,
        "held_out": evaluate(model, declared.samples.test),
        "first_8": evaluate(model, 8)["model"],
        "revision": model.revision,
    }
    text = json.dumps(record, indent=2)
    (options.folder / "training.json").write_text(text + "\n", "utf-8")
    print(text)


if __name__ == "__main__":
    main()
