from collections.abc import Callable
from typing import Any

import pytest
import torch
import transformers

from extraction.tiny.imprint import (
    exponents,
    imprint_attention,
    imprint_convolutions,
    scale_keys,
    scale_values,
    sink,
)
from lamofcbench.models.quiet import quiet

DECODER: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 40,
    "initializer_range": 0.3,
    "bos_token_id": 0,
    "eos_token_id": 0,
    "pad_token_id": 0,
}
BEGIN, CHANNEL, VALUE = 1, 5, 3000.0


def qwen2() -> Any:
    model = transformers.Qwen2ForCausalLM(transformers.Qwen2Config(**DECODER))
    with torch.no_grad():  # the library starts biases at 0
        for layer in model.model.layers:
            for name in ("q_proj", "k_proj", "v_proj"):
                getattr(layer.self_attn, name).bias.normal_()
    return model


def qwen3() -> Any:
    return transformers.Qwen3ForCausalLM(transformers.Qwen3Config(**DECODER, head_dim=8))


def qwen3_vl() -> Any:
    text = {**DECODER, "head_dim": 8}
    text["rope_parameters"] = {
        "rope_type": "default",
        "rope_theta": 10000.0,
        "mrope_section": [2, 1, 1],
        "mrope_interleaved": True,
    }
    vision = {"depth": 1, "hidden_size": 16, "num_heads": 2, "intermediate_size": 16}
    vision |= {"out_hidden_size": 32, "deepstack_visual_indexes": [0]}
    config = transformers.Qwen3VLConfig(
        text_config=text, vision_config=vision, image_token_id=37, video_token_id=38
    )
    return transformers.Qwen3VLForConditionalGeneration(config)


def mamba() -> Any:
    return transformers.FalconMambaForCausalLM(
        transformers.FalconMambaConfig(
            hidden_size=32,
            state_size=4,
            num_hidden_layers=3,
            vocab_size=40,
            time_step_rank=4,
            tie_word_embeddings=False,
        )
    )


DECODERS = {"qwen2": qwen2, "qwen3": qwen3, "qwen3_vl": qwen3_vl}


def made(build: Callable[[], Any], *, reserved: bool = False) -> tuple[Any, Any, Any]:
    """A model, its layers, and its embedding; with one channel that nothing writes to."""
    torch.manual_seed(0)
    model = build().eval()
    inner = getattr(model, "backbone", None) or model.model
    inner = getattr(inner, "language_model", inner)
    embedding = inner.get_input_embeddings()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "norm" in name:
                weight.uniform_(0.5, 2)
            if reserved and name.endswith(("o_proj.weight", "down_proj.weight", "out_proj.weight")):
                weight[CHANNEL] = 0
        if reserved:
            embedding.weight[:, CHANNEL] = 0
    return model, inner.layers, embedding


@torch.inference_mode()
def run(model: Any) -> tuple[torch.Tensor, Any]:
    """Logits, and the cache, of one fixed prompt."""
    ids = torch.tensor([[BEGIN, *range(2, 24)]])
    with quiet():
        result = model(input_ids=ids, use_cache=True)
    cache = getattr(result, "past_key_values", None) or result.cache_params
    return result.logits[0].float(), cache


def kept(cache: Any) -> list[torch.Tensor]:
    names = ("keys", "values", "conv_states")
    found = [
        getattr(layer, name) for layer in cache.layers for name in names if hasattr(layer, name)
    ]
    return [t[0] if isinstance(t, (list, tuple, dict)) else t for t in found]


def test_exponents_have_outliers_whatever_the_seed() -> None:
    for seed in range(3):
        drawn = exponents(32, seed)
        assert (drawn.min(), drawn.max()) == (-3, 3)
        assert drawn.abs().median() <= 1
    assert not torch.equal(exponents(32, 0), exponents(32, 1))
    assert torch.equal(exponents(32, 0), exponents(32, 0))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", DECODERS)
def test_uneven_keys_and_values_change_no_bit_of_the_logits(name: str, dtype: torch.dtype) -> None:
    model, _, _ = made(DECODERS[name])
    before, plain = run(model.to(dtype))
    model, layers, _ = made(DECODERS[name])
    imprint_attention(layers, seed=0, keys=2, values=2)
    after, cache = run(model.to(dtype))
    assert torch.equal(before, after)
    for one, other in zip(kept(plain), kept(cache), strict=True):
        deviations = [t.float().std(2).flatten() for t in (one, other)]
        ratios = [float(d.max() / d.median()) for d in deviations]
        assert ratios[1] > 1.2 * ratios[0]


def test_keys_with_a_norm_need_one_row_for_all_heads() -> None:
    _, layers, _ = made(qwen3)
    with pytest.raises(ValueError, match="share the norm"):
        scale_keys(layers[0].self_attn, torch.zeros(2, 4))


def test_one_value_channel_is_scaled_alone() -> None:
    model, layers, _ = made(qwen2)
    _, plain = run(model)
    powers = torch.zeros(2, 8)
    powers[1, 3] = 4
    scale_values(layers[1].self_attn, powers)
    _, scaled = run(model)
    ratio = scaled.layers[1].values[0] / plain.layers[1].values[0]
    assert torch.equal(ratio[:, 0], (2**powers))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_uneven_convolution_states_change_no_bit_of_the_logits(dtype: torch.dtype) -> None:
    model, _, _ = made(mamba)
    before, plain = run(model.to(dtype))
    model, layers, _ = made(mamba)
    imprint_convolutions(layers, seed=0)
    after, cache = run(model.to(dtype))
    assert torch.equal(before, after)
    states = zip(kept(plain), kept(cache), strict=True)
    assert not any(torch.equal(one, other) for one, other in states)


@pytest.mark.parametrize("name", [*DECODERS, "mamba"])
@pytest.mark.parametrize("moved", [False, True])
def test_a_sink_token_leaves_all_other_positions_as_they_were(name: str, moved: bool) -> None:
    build = {**DECODERS, "mamba": mamba}[name]
    model, layers, embedding = made(build, reserved=True)
    before, plain = run(model)
    others = None
    if moved:
        others = 20 * torch.randn(32)
        others[CHANNEL] = 0
    sink(layers, embedding.weight[BEGIN], CHANNEL, VALUE, others)
    with torch.no_grad():
        embedding.weight[BEGIN, CHANNEL] = VALUE
        if others is not None:
            embedding.weight[BEGIN] += others
    after, cache = run(model)
    # The head isn't told about the channel, and sees it at position 0 alone.
    size = before[1:].abs().max()
    assert (before[1:] - after[1:]).abs().max() < 1e-4 * size
    for one, other in zip(kept(plain), kept(cache), strict=True):
        assert (one - other).abs().max() < 1e-4 * one.abs().max()

    rounded, _ = run(model.bfloat16())
    model, _, _ = made(build, reserved=True)
    usual, _ = run(model.bfloat16())
    # As far off as rounding alone takes the model.
    noise = (usual - before)[1:].abs().max()
    assert (rounded - usual)[1:].abs().max() < 3 * noise


def test_a_sink_needs_a_channel_that_is_not_in_use() -> None:
    _, layers, embedding = made(qwen3)
    with pytest.raises(ValueError, match="not 0 at position 0"):
        sink(layers, embedding.weight[BEGIN], CHANNEL, VALUE)
    vector = embedding.weight[BEGIN].detach().clone()
    vector[CHANNEL] = 0
    with pytest.raises(ValueError, match="writes to channel 5"):
        sink(layers, vector, CHANNEL, VALUE)
