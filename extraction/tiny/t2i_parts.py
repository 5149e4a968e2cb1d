"""The parts of the ``t2i`` miniature before they are trained: a Stable Diffusion 3.5 made small."""

import itertools
from typing import Any

import transformers
from diffusers import (
    AutoencoderKL,
    FlowMatchEulerDiscreteScheduler,
    SD3ControlNetModel,
    SD3Transformer2DModel,
)

from extraction.sources.digits_t2i import INKS, SIZE, TEMPLATES, WORDS

__all__ = ["TOKENS", "build_diffusion", "build_text", "build_tokenizers", "build_vae"]

TOKENS = 77
CLIP_WIDTHS = (24, 40)
T5_WIDTH = 64
LATENT_CHANNELS = 8
LATENT_SIZE = SIZE // 4
WIDTH = 48


def _words() -> list[str]:
    """Every word of every caption, sorted."""
    templates = (t.replace(",", "").format(word="", ink="").split() for t in TEMPLATES)
    return sorted({*itertools.chain(*templates), *WORDS, *INKS})


def build_tokenizers() -> tuple[transformers.CLIPTokenizer, transformers.T5TokenizerFast]:
    """Make tokenizers that know the captions' words whole, and spell all others in letters."""
    letters = [*"abcdefghijklmnopqrstuvwxyz0123456789,.!'-"]
    merges: list[tuple[str, str]] = []
    for word in _words():
        pieces = [*word[:-1], word[-1] + "</w>"]
        left = pieces[0]
        for right in pieces[1:]:
            if (left, right) not in merges:
                merges.append((left, right))
            left += right
    clip_vocabulary = ["<|startoftext|>", "<|endoftext|>", *letters, *(c + "</w>" for c in letters)]
    clip_vocabulary += [left + right for left, right in merges]
    clip = transformers.CLIPTokenizer(
        vocab={token: i for i, token in enumerate(dict.fromkeys(clip_vocabulary))},
        merges=merges,
        model_max_length=TOKENS,
    )
    special = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -4.0)]
    pieces_t5 = [*special, *((c, -6.0) for c in letters), *((f"▁{w}", -2.0) for w in _words())]
    t5 = transformers.T5TokenizerFast(vocab=pieces_t5, extra_ids=0, model_max_length=512)
    return clip, t5


def build_text(clip: Any, t5: Any) -> tuple[Any, Any, Any]:
    """Make two CLIP text encoders and a T5 encoder for the tokenizers' vocabularies."""
    encoders = [
        transformers.CLIPTextModelWithProjection(
            transformers.CLIPTextConfig(
                vocab_size=len(clip),
                hidden_size=width,
                intermediate_size=2 * width,
                projection_dim=width,
                num_hidden_layers=2,
                num_attention_heads=2,
                max_position_embeddings=TOKENS,
                bos_token_id=clip.bos_token_id,
                eos_token_id=clip.eos_token_id,
                pad_token_id=clip.pad_token_id,
            )
        )
        for width in CLIP_WIDTHS
    ]
    third = transformers.T5EncoderModel(
        transformers.T5Config(
            vocab_size=len(t5),
            d_model=T5_WIDTH,
            d_kv=16,
            d_ff=64,
            num_layers=2,
            num_heads=2,
            feed_forward_proj="gated-gelu",
            dropout_rate=0.0,
        )
    )
    return encoders[0], encoders[1], third


def build_vae() -> AutoencoderKL:
    """Make an autoencoder that halves the sides twice, without convolutions around its latents."""
    return AutoencoderKL(
        in_channels=3,
        out_channels=3,
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(8, 16, 24),
        layers_per_block=1,
        latent_channels=LATENT_CHANNELS,
        # More groups would scale the channels apart, and colours with them.
        norm_num_groups=1,
        sample_size=SIZE,
        use_quant_conv=False,
        use_post_quant_conv=False,
        shift_factor=0.0,
        scaling_factor=1.0,
    )


def build_diffusion() -> tuple[
    SD3Transformer2DModel, SD3ControlNetModel, FlowMatchEulerDiscreteScheduler
]:
    """Make a transformer, and a ControlNet that takes no text and shares its patch embedding."""
    common = {
        "sample_size": LATENT_SIZE,
        "patch_size": 2,
        "in_channels": LATENT_CHANNELS,
        "out_channels": LATENT_CHANNELS,
        "attention_head_dim": 16,
        "num_attention_heads": WIDTH // 16,
        "caption_projection_dim": WIDTH,
        "pooled_projection_dim": sum(CLIP_WIDTHS),
        "pos_embed_max_size": LATENT_SIZE // 2,
    }
    transformer = SD3Transformer2DModel(
        **common, num_layers=2, joint_attention_dim=T5_WIDTH, qk_norm="rms_norm"
    )
    controlnet = SD3ControlNetModel(
        **common,
        num_layers=1,
        joint_attention_dim=None,
        pos_embed_type=None,
        use_pos_embed=False,
        force_zeros_for_pooled_projection=False,
    )
    return transformer, controlnet, FlowMatchEulerDiscreteScheduler(shift=1.0)
