"""Writes the ``alm`` miniature in the layout that its family loads."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from lamofcbench.models import bundled_path
from lamofcbench.models.kimi import ADAPTOR, AUDIO_TOKENIZER, CODEBOOK_TYPE, WHISPER

__all__ = ["save"]


def _write_json(path: Path, data: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(data, indent=2, sort_keys=True) + "\n", "utf-8")


def _write(path: Path, tensors: dict[str, torch.Tensor], dtype: torch.dtype) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    whole = {name: t.detach().to(dtype).contiguous() for name, t in tensors.items()}
    save_file(whole, path, metadata={"format": "pt"})
    path.chmod(0o644)  # safetensors makes it private, and a wheel would keep that


def save(learner: Any, extractor: Any) -> Path:
    """Round the weights to bfloat16, in which the full model computes, and write the miniature."""
    folder = bundled_path("alm")
    trunk = {k: v for k, v in learner.trunk.state_dict().items() if k != "lm_head.weight"}
    trunk |= {f"{ADAPTOR}{k}": v for k, v in learner.adaptor.state_dict().items()}
    _write(folder / "model.safetensors", trunk, torch.bfloat16)
    config = learner.trunk.config.to_dict()
    config |= {
        "model_type": "kimi_audio",
        "architectures": ["MoonshotKimiaForCausalLM"],
        "kimia_token_offset": learner.offset,
        "kimia_adaptor_input_dim": learner.adaptor.layers[0].in_features,
        "dtype": "bfloat16",
    }
    _write_json(folder / "config.json", config)
    encoder = {f"model.encoder.{k}": v for k, v in learner.encoder.state_dict().items()}
    _write(folder / WHISPER / "model.safetensors", encoder, torch.bfloat16)
    _write_json(folder / WHISPER / "config.json", learner.encoder.config.to_diff_dict())
    extractor.save_pretrained(folder / WHISPER)
    codebook = learner.codebook.state_dict()
    # Not rounded: which code is nearest must not depend on it.
    _write(folder / AUDIO_TOKENIZER / "model.safetensors", codebook, torch.float32)
    _write_json(
        folder / AUDIO_TOKENIZER / "config.json",
        {"model_type": CODEBOOK_TYPE, "codes": len(learner.codebook.entries)},
    )
    learner.tokenizer.save_pretrained(folder)
    return folder
