"""Small releases in the reference's format: files of all five kinds, at toy widths."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from lamofcbench.interop.zst import write_zst

__all__ = ["RELEASES", "Kind", "write_release"]

LEVELS = (9, 19, 29, 39)


def _normal(seed: int, *shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator).to(dtype)


def _cls(row: int) -> Any:
    return {f"backbone.blocks.{i}": [_normal(row + i, 1, 5, 8)] for i in (9, 39)}


def _seg(row: int) -> Any:
    crops = 4 if row == 0 else row
    prefix = "segmentation_model.0.backbone.blocks"
    return {f"{prefix}.{i}": _normal(row + i, crops, 6, 8) for i in LEVELS}


def _dep(row: int) -> Any:
    return {f"encoder.backbone.blocks.{i}": _normal(row + i, 2, 7, 8) for i in LEVELS}


def _llm(row: int) -> Any:
    kind, tokens = torch.bfloat16, 9 - 3 * row
    # Transposed, as caches come from attention: not contiguous.
    cache = [_normal(row + i, 1, tokens, 2, 4, dtype=kind).transpose(1, 2) for i in range(10)]
    return {
        "output": _normal(row, 1, tokens, 8, dtype=kind),
        "key": cache[:5],
        "value": cache[5:],
    }


def _ssm(row: int) -> Any:
    kind = torch.float16
    return {
        "output": _normal(row, 1, 4 + row, 8),
        "ssm_state": [_normal(row + i, 1, 16, 3, dtype=kind) for i in range(5)],
        "conv_state": [_normal(row + i + 9, 1, 16, 4, dtype=kind) for i in range(5)],
    }


def _alm(row: int) -> Any:
    kind, tokens = torch.bfloat16, 5 + row
    caches = [
        tuple(_normal(10 * row + 2 * i + j, 1, 2, tokens, 4, dtype=kind) for j in range(2))
        for i in range(5)
    ]
    nest: Any = {f"model.layers.{i}": caches[i] for i in range(4)}
    nest["model.layers.4"] = (_normal(row, 1, tokens, 8, dtype=kind), caches[4])
    return {"features": nest} if row == 2 else nest


def _t2i(row: int) -> Any:
    kind, nest = torch.float16, {}
    for item in range(6):
        seed, width = 10 * row + item, (8, 10, 12)[item % 3]
        tensors = {"clip_prompt_embeds": _normal(seed, 7, width, dtype=kind)}
        tensors["clip_pooled_prompt_embeds"] = _normal(seed, width, dtype=kind)
        if item % 3 == 2:
            tensors = {"t5_prompt_embeds": tensors["clip_prompt_embeds"]}
        name = ("text_encoder", "text_encoder_2", "text_encoder_3")[item % 3]
        nest[f"{name}-item{item}"] = tensors
    control = _normal(row, 4, 6, 6, dtype=kind)
    nest["vae.encoder"] = {"vae.encoder_f0": control, "vae.encoder_f1": control.clone()}
    nest["vae.decoder"] = _normal(row + 50, 2, 6, 6, dtype=kind)
    return nest


@dataclass(frozen=True)
class Kind:
    """A kind of file: what one holds, and what one of sample ``{}`` is called."""

    make: Callable[[int], Any]
    name: str


RELEASES = {
    "in1k-vit": Kind(_cls, "cls_in1kval/n0144076{0}-ILSVRC2012_val_{0}.zst"),
    "ade20k-vit": Kind(_seg, "ade20k_val/ADE_val_{0}-stackedpatches.zst"),
    "nyuv2-vit": Kind(_dep, "nyudv2_test/bathroom-rgb_{0}-wflip.zst"),
    "truthfulqa-llm": Kind(_llm, "fc_truthfulqa_mc1/sample{0}-layer4-item1.zst"),
    "gsm8k-ssm": Kind(_ssm, "fc_gsm8k/sample{0}-layer4-item1.zst"),
    "sdqa-alm": Kind(_alm, "sd-qa/SD-QA-usa-{0}.zst"),
    "canny-t2i": Kind(_t2i, "sd35cond/{0}.zst"),
}


def write_release(folder: Path, config: str, count: int = 3) -> dict[str, Any]:
    """Write a release and return what each file holds, by its path."""
    kind = RELEASES[config]
    made = {kind.name.format(row + 9): kind.make(row) for row in range(count)}
    for name, nest in made.items():
        write_zst(folder / name, nest)
    return made
