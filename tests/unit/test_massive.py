import pytest
import torch
import transformers

from extraction.tiny.massive import SPREAD, balance, hold_channels, hold_loud, spread
from extraction.tiny.pins import Pins

TOKENS, FREE, MASSIVE, LOUD = 20, 3, 7, 4


@pytest.fixture
def trained():
    """A small decoder with channels held through some steps of training, and its inputs."""
    torch.manual_seed(0)
    config = transformers.Qwen3Config(
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=8,
        vocab_size=TOKENS,
        tie_word_embeddings=True,
    )
    model = transformers.Qwen3ForCausalLM(config)
    pins = Pins()
    hold_channels(pins, model.model, {MASSIVE: spread(100.0, TOKENS), FREE: 0.0})
    hold_loud(pins, model.model, LOUD, 9.0, 5, (MASSIVE, FREE))
    optimiser = torch.optim.AdamW(model.parameters(), lr=0.01)
    pins.tie(optimiser)
    ids = torch.arange(TOKENS)[None]
    for _ in range(5):
        optimiser.zero_grad()
        model(input_ids=ids, labels=ids).loss.backward()
        optimiser.step()
    return model, ids


def test_held_channels_pass_all_layers_unchanged(trained):
    model, ids = trained
    given = model.model.embed_tokens.weight.detach()
    assert (given[:, MASSIVE] - 100).abs().max() <= 100 * SPREAD
    assert given[:, MASSIVE].std() > 1
    seen = model(input_ids=ids, output_hidden_states=True).hidden_states[1:-1]
    for stream in seen:
        assert torch.equal(stream[0, :, MASSIVE], given[:, MASSIVE])
        assert not stream[0, :, FREE].any()


def test_the_head_reads_no_held_channel(trained):
    model, ids = trained
    read = model.model(input_ids=ids).last_hidden_state
    assert not read[..., [MASSIVE, FREE]].any()


def test_a_loud_token_keeps_its_values(trained):
    loud = trained[0].model.embed_tokens.weight[LOUD].detach()
    assert (loud.abs() == 9).sum() == 5
    assert loud[FREE] == 0
    assert abs(loud[MASSIVE] - 100) <= 100 * SPREAD


def test_balanced_norms_give_unit_size_beside_a_massive_channel(trained):
    model, ids = trained
    ids = ids[:, LOUD + 1 :]
    held = (MASSIVE, FREE)
    balance(model.model, held, lambda: model(input_ids=ids))
    rest = [i for i in range(16) if i not in held]
    for layer in model.model.layers:
        sizes = []
        hook = layer.input_layernorm.register_forward_hook(
            lambda _m, _i, out, sizes=sizes: sizes.append(out[0][:, rest].square().mean(1).sqrt())
        )
        model(input_ids=ids)
        hook.remove()
        assert 0.8 < sizes[0].median().item() < 1.25
        assert layer.input_layernorm.weight[MASSIVE].item() < 2
