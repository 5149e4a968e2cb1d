"""The published configurations behind ``canny-t2i``, and the shapes that they give.

Everything is built on the meta device: shapes and dtypes are computed, and no weight exists.
"""

from typing import Any

import diffusers
import torch
import transformers

from lamofcbench.models.t2i import CLIPS, PROMPTS, T5, key_shapes
from lamofcbench.models.t2i_generation import Generation
from lamofcbench.spec import ProfileSpec

__all__ = ["shapes"]

CLIP_L: dict[str, Any] = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "projection_dim": 768,
}
CLIP_G: dict[str, Any] = {
    "hidden_size": 1280,
    "intermediate_size": 5120,
    "num_hidden_layers": 32,
    "num_attention_heads": 20,
    "projection_dim": 1280,
}
T5_XXL: dict[str, Any] = {
    "d_model": 4096,
    "d_ff": 10240,
    "d_kv": 64,
    "num_heads": 64,
    "num_layers": 24,
    "feed_forward_proj": "gated-gelu",
}
VAE: dict[str, Any] = {
    "block_out_channels": (128, 256, 512, 512),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "layers_per_block": 2,
    "latent_channels": 16,
    "sample_size": 1024,
    "use_quant_conv": False,
    "use_post_quant_conv": False,
}
TRANSFORMER: dict[str, Any] = {
    "num_layers": 38,
    "num_attention_heads": 38,
    "attention_head_dim": 64,
    "caption_projection_dim": 2432,
    "joint_attention_dim": 4096,
    "pooled_projection_dim": 2048,
    "pos_embed_max_size": 192,
    "qk_norm": "rms_norm",
    "in_channels": 16,
    "out_channels": 16,
    "sample_size": 128,
    "patch_size": 2,
}


@torch.no_grad()
def shapes(profile: ProfileSpec) -> dict[str, tuple[tuple[int, ...], str]]:
    """Run the published architecture once, without weights.

    Args:
        profile: the full profile; its image size, tokens and dtype are taken.

    Returns:
        Shape and dtype of every key, in the order of `lamofcbench.models.t2i.key_shapes`.
    """
    generation = Generation.declared(profile)
    dtype = getattr(torch, profile.model.dtype)
    found: dict[str, torch.Tensor] = {}
    with torch.device("meta"):
        ids = torch.zeros((1, generation.tokens), dtype=torch.int64)
        clips = [transformers.CLIPTextConfig(**kind) for kind in (CLIP_L, CLIP_G)]
        for name, config in zip(CLIPS, clips, strict=True):
            encoder = transformers.CLIPTextModelWithProjection(config).to(dtype).eval()
            output = encoder(ids, output_hidden_states=True)
            for prompt in PROMPTS:
                found[f"{name}.{prompt}.pooled"] = output[0]
                found[f"{name}.{prompt}.hidden"] = output.hidden_states[-2]
        t5 = transformers.T5Config(**T5_XXL)
        third = transformers.T5EncoderModel(t5).to(dtype).eval()(ids)[0]
        found.update({f"{T5}.{prompt}.hidden": third for prompt in PROMPTS})
        vae = diffusers.AutoencoderKL(**VAE)
        for parameter in vae.parameters():
            parameter.data = parameter.data.to(dtype)
        image = torch.zeros((1, 3, generation.size, generation.size), dtype=dtype)
        found["vae.encoder"] = vae.encoder(image)
        transformer = diffusers.SD3Transformer2DModel(**TRANSFORMER)
        for parameter in transformer.parameters():
            parameter.data = parameter.data.to(dtype)
        latent = vae.encode(image).latent_dist.mean
        found["vae.decoder"] = transformer(
            latent,
            torch.zeros((1, 2 * generation.tokens, t5.d_model), dtype=dtype),
            torch.zeros((1, TRANSFORMER["pooled_projection_dim"]), dtype=dtype),
            torch.zeros(1),
        ).sample
    expected = key_shapes(clips, t5, vae.config, generation.size, generation.tokens)
    return {
        key: (tuple(found[key].shape[1:]), str(found[key].dtype).removeprefix("torch."))
        for key in expected
    }
