"""The published configurations, run once on the meta device: shapes and dtypes without a weight.

What is written down here is what decides a shape; everything else is the library's default.
"""

from collections.abc import Callable
from typing import Any

import torch
import transformers

from extraction import published_t2i
from lamofcbench.models.decoder import SplitDecoder
from lamofcbench.spec import ProfileSpec

__all__ = ["SHAPES", "Shapes"]

Shapes = dict[str, tuple[tuple[int, ...], str]]
"""Shape, in the stored order without the sample axis, and dtype, by key."""

TOKENS = 250
VIEWS = 2
CROPS = 3

DINOV3_7B: dict[str, Any] = {
    "hidden_size": 4096,
    "intermediate_size": 8192,
    "num_hidden_layers": 40,
    "num_attention_heads": 32,
    "num_register_tokens": 4,
    "patch_size": 16,
    "use_gated_mlp": True,
    "hidden_act": "silu",
}
QWEN3_8B: dict[str, Any] = {
    "vocab_size": 151936,
    "hidden_size": 4096,
    "intermediate_size": 12288,
    "num_hidden_layers": 36,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 128,
}
FALCON_MAMBA_7B: dict[str, Any] = {
    "vocab_size": 65024,
    "hidden_size": 4096,
    "intermediate_size": 8192,
    "num_hidden_layers": 64,
    "state_size": 16,
    "conv_kernel": 4,
    "time_step_rank": 256,
}
KIMI_AUDIO_7B: dict[str, Any] = {
    "vocab_size": 168448,
    "hidden_size": 3584,
    "intermediate_size": 18944,
    "num_hidden_layers": 28,
    "num_attention_heads": 28,
    "num_key_value_heads": 4,
}
QWEN3_VL_8B: dict[str, Any] = {
    "text_config": {
        **QWEN3_8B,
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": 5000000.0,
            "mrope_section": [24, 20, 20],
            "mrope_interleaved": True,
        },
    },
    "vision_config": {
        "depth": 27,
        "hidden_size": 1152,
        "intermediate_size": 4304,
        "num_heads": 16,
        "patch_size": 16,
        "spatial_merge_size": 2,
        "out_hidden_size": 4096,
        "deepstack_visual_indexes": [8, 16, 24],
    },
}


def _measured(found: dict[str, torch.Tensor]) -> Shapes:
    """Shapes as stored: caches token-major."""
    stored = {
        key: tensor.transpose(0, 1) if key.endswith(("k_cache", "v_cache")) else tensor
        for key, tensor in found.items()
    }
    return {
        key: (tuple(tensor.shape), str(tensor.dtype).removeprefix("torch."))
        for key, tensor in stored.items()
    }


def _vit(profile: ProfileSpec) -> Shapes:
    declared = profile.preprocess
    crop = int(declared.get("crop", 0))
    height, width = (crop, crop) if crop else _depth_size(profile)
    axis = profile.keys[0].axes[0]
    batch = {"crop": CROPS, "view": VIEWS}.get(axis, 1)
    with torch.device("meta"):
        model = transformers.DINOv3ViTModel(transformers.DINOv3ViTConfig(**DINOV3_7B))
        pixels = torch.zeros((batch, 3, height, width))
        hidden = model.embeddings(pixels)
        positions = model.rope_embeddings(pixels)
    found = {}
    for number, block in enumerate(model.model.layer):
        hidden = block(hidden, position_embeddings=positions)
        found[f"layer.{number}"] = hidden if axis in ("crop", "view") else hidden[0]
    return _measured({tensor.name: found[tensor.name] for tensor in profile.keys})


def _depth_size(profile: ProfileSpec) -> tuple[int, int]:
    """NYUv2's images of 480 by 640, their short side resized."""
    short = int(profile.preprocess["short_side"])
    return short, short * 640 // 480


def _decoder(text: Any, profile: ProfileSpec) -> Shapes:
    split = SplitDecoder(text, None, 4)
    positions = torch.zeros((1, TOKENS), dtype=torch.int64, device="meta")
    ids = torch.zeros((1, TOKENS), dtype=torch.int64, device="meta")
    with split.stopping() as captured:
        split.hidden(captured.cache, positions, input_ids=ids)
    names = [tensor.name for tensor in profile.keys if tensor.name.startswith("layer.")]
    return _measured({name: captured.tensor(name) for name in names})


def _llm(profile: ProfileSpec) -> Shapes:
    with torch.device("meta"):
        model = transformers.Qwen3Model(transformers.Qwen3Config(**QWEN3_8B)).bfloat16()
        return _decoder(model.eval(), profile)


def _alm(profile: ProfileSpec) -> Shapes:
    with torch.device("meta"):
        model = transformers.Qwen2Model(transformers.Qwen2Config(**KIMI_AUDIO_7B)).bfloat16()
        return _decoder(model.eval(), profile)


def _ssm(profile: ProfileSpec) -> Shapes:
    with torch.device("meta"):
        config = transformers.FalconMambaConfig(**FALCON_MAMBA_7B)
        model = transformers.FalconMambaModel(config).bfloat16().eval()
        ids = torch.zeros((1, TOKENS), dtype=torch.int64)
    model.layers = model.layers[:5]
    kept: list[torch.Tensor] = []
    model.layers[4].register_forward_hook(lambda _module, _inputs, output: kept.append(output))
    cache = model(ids, use_cache=True).cache_params
    found = {"layer.4.output": kept[0][0]}
    for number, layer in enumerate(cache.layers[:5]):
        found[f"layer.{number}.ssm_state"] = layer.recurrent_states[0][0]
        found[f"layer.{number}.conv_state"] = layer.conv_states[0][0]
    return _measured({tensor.name: found[tensor.name] for tensor in profile.keys})


def _mllm(profile: ProfileSpec) -> Shapes:
    with torch.device("meta"):
        config = transformers.Qwen3VLConfig(**QWEN3_VL_8B)
        model = transformers.Qwen3VLModel(config).bfloat16().eval()
        found = _decoder(model.language_model, profile)
        found.update(_vision(model.visual))
    return {tensor.name: found[tensor.name] for tensor in profile.keys}


def _vision(tower: Any) -> Shapes:
    """The mergers' outputs for a square image of 512 pixels.

    Positions in the tower follow from the values of the grid, which a meta tensor has not; its
    blocks keep the shape of what comes in, so the mergers are run on the patches themselves.
    """
    config = tower.config
    patches = torch.zeros(((512 // config.patch_size) ** 2, config.hidden_size)).bfloat16()
    found = {"vision.output": tower.merger(patches)}
    for level, merger in enumerate(tower.deepstack_merger_list):
        found[f"vision.deepstack.{level}"] = merger(patches)
    return _measured(found)


SHAPES: dict[str, Callable[[ProfileSpec], Shapes]] = {
    "alm": _alm,
    "llm": _llm,
    "mllm": _mllm,
    "ssm": _ssm,
    "t2i": published_t2i.shapes,
    "vit": _vit,
}
