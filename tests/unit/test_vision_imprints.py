"""What the vision miniatures are given before and after their training."""

import copy

import pytest
import torch
import transformers

from extraction.tiny import t2i_massive, vit_massive
from extraction.tiny.imprint_t2i import scale_pooled
from extraction.tiny.pins import Pins
from extraction.tiny.t2i_parts import build_diffusion, build_text, build_tokenizers
from extraction.tiny.vit_dense import CONFIG


def test_entries_and_directions_stay_held_after_a_step() -> None:
    torch.manual_seed(0)
    layer = torch.nn.Linear(6, 4)
    direction = torch.nn.functional.normalize(torch.randn(1, 6), dim=1)
    pins = Pins()
    pins.blind(layer.weight, direction)
    pins.hold(layer.bias, 2, 7.0)
    before = layer.weight.detach().clone()
    optimiser = torch.optim.AdamW(layer.parameters(), lr=0.1)
    pins.tie(optimiser)
    layer(torch.randn(3, 6)).square().sum().backward()
    optimiser.step()
    assert layer.bias[2] == 7
    assert not torch.equal(layer.weight, before)
    assert (layer.weight @ direction.T).abs().max() < 1e-6


def vit() -> tuple[transformers.DINOv3ViTModel, list[torch.nn.LayerNorm]]:
    torch.manual_seed(0)
    backbone = transformers.DINOv3ViTModel(
        transformers.DINOv3ViTConfig(**CONFIG, image_size=32)  # type: ignore[arg-type]
    )
    norms = [torch.nn.LayerNorm(96) for _ in range(4)]
    vit_massive.imprint(backbone, norms, Pins(), 0)
    return backbone.eval(), norms


@torch.no_grad()
def test_massive_channels_of_a_vit_start_and_grow_as_declared() -> None:
    backbone, norms = vit()
    pixels = torch.randn(2, 3, 32, 32)
    states = backbone(pixels, output_hidden_states=True).hidden_states
    for m in vit_massive.MASSIVE:
        for depth in range(5):
            values = states[depth][:, :5, m.channel]
            factors = torch.tensor([1.0, *vit_massive.REGISTER_FACTORS])
            expected = m.start * factors + depth * m.growth
            assert torch.equal(values, expected.expand(2, 5))
            patches = states[depth][:, 5:, m.channel] - depth * m.growth
            assert ((patches / m.start - 1).abs() < 0.5).all()
            assert patches.std() > 0
    ordinary = [i for i in range(96) if i not in {m.channel for m in vit_massive.MASSIVE}]
    for depth, norm in enumerate(norms):
        given = norm(states[depth + 1][:, 5:])
        assert not given[..., [m.channel for m in vit_massive.MASSIVE]].any()
        ratio = given[..., ordinary].std() / states[depth + 1][:, 5:, ordinary].std()
        assert 0.6 < ratio < 1.6


@torch.no_grad()
def test_no_block_of_a_vit_sees_the_outliers_of_registers() -> None:
    backbone, _ = vit()
    registers = backbone.embeddings.register_tokens
    massive = [m.channel for m in vit_massive.MASSIVE]
    outliers = registers[0].clone()
    outliers[:, massive] = 0
    assert (outliers.abs().amax(1) == vit_massive.OUTLIER).all()
    assert not outliers.sum(1).any()
    for block in backbone.model.layer:
        for layer in (block.attention.q_proj, block.attention.k_proj, block.mlp.up_proj):
            assert (layer.weight @ outliers.T).abs().max() < 1e-4


def text_parts() -> dict[str, torch.nn.Module]:
    torch.manual_seed(0)
    clip, t5 = build_tokenizers()
    encoders = build_text(clip, t5)
    transformer, controlnet, _ = build_diffusion()
    t2i_massive.imprint(
        encoders[:2], encoders[2], t5.eos_token_id, transformer.context_embedder, Pins(), 0
    )
    names = ("text_encoder", "text_encoder_2", "text_encoder_3", "transformer", "controlnet")
    return dict(zip(names, (*encoders, transformer, controlnet), strict=True))


@torch.no_grad()
@pytest.mark.parametrize("index", [0, 1])
def test_massive_channels_of_a_clip_are_their_tokens_own(index: int) -> None:
    parts = text_parts()
    clip = parts[("text_encoder", "text_encoder_2")[index]].eval()
    tokens = torch.tensor([[0, 30, 40, 50, 1, 1]])
    states = clip(tokens, output_hidden_states=True).hidden_states
    for channel in t2i_massive.CLIP_CHANNELS[index]:
        start = clip.text_model.embeddings.token_embedding.weight[tokens, channel]
        shares = start.abs() / t2i_massive.CLIP_SIZES[index]
        assert ((shares - 1).abs() <= t2i_massive.SPREAD + 1e-6).all()
        for state in states[:2]:
            assert torch.equal(state[..., channel], start)


@torch.no_grad()
def test_massive_channels_of_the_t5_pass_its_last_norm() -> None:
    t5 = text_parts()["text_encoder_3"].eval()
    given = t5(torch.tensor([[30, 40, 50, 1, 0, 0]]))[0]
    ordinary = [i for i in range(64) if i not in t2i_massive.T5_CHANNELS]
    assert given[..., t2i_massive.T5_CHANNELS[0]].mean() < -100
    assert given[..., t2i_massive.T5_CHANNELS[1]].mean() > 50
    assert given[..., ordinary].abs().max() < 10


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_a_scaled_pooled_vector_changes_nothing(dtype: torch.dtype) -> None:
    parts = {name: part.to(dtype).eval() for name, part in text_parts().items()}
    scaled = copy.deepcopy(parts)
    scale_pooled(scaled, (5, 23), 3)
    tokens = torch.tensor([[0, 30, 40, 50, 1, 1]])

    def pooled(of: dict[str, torch.nn.Module]) -> torch.Tensor:
        return torch.cat([of[name](tokens)[0] for name in ("text_encoder", "text_encoder_2")], -1)

    before, after = pooled(parts), pooled(scaled)
    factors = torch.ones(before.shape[-1], dtype=dtype)
    factors[[5, 24 + 23]] = 8
    assert torch.equal(after, before * factors)
    for name in ("transformer", "controlnet"):
        time = torch.tensor([500.0]).to(dtype)
        plain = parts[name].time_text_embed(time, before)
        assert torch.equal(scaled[name].time_text_embed(time, after), plain)
