import pytest
import torch

from lamofcbench.quant.affine import GROUPS, fake_quantise

AXES = ("head", "token", "dim")


@pytest.mark.parametrize("bits", [1, 2, 5, 8, 16])
@pytest.mark.parametrize("groups", GROUPS)
def test_nothing_moves_by_more_than_half_a_step(bits: int, groups: str) -> None:
    values = torch.randn((2, 9, 4), generator=torch.Generator().manual_seed(bits)).double()
    coded = fake_quantise(values, AXES, bits, groups)
    shared = {"tensor": [0, 1, 2], "channel": [1], "token": [0, 2]}[groups]
    low, high = values.amin(shared, True), values.amax(shared, True)
    step = (high - low) / (2**bits - 1)
    assert ((coded - values).abs() <= step / 2 + 1e-12).all()
    assert torch.equal(coded.amin(shared, True), low)
    assert torch.allclose(coded.amax(shared, True), high, rtol=1e-14)
    tokens = coded.movedim(1, 0).flatten(1)
    for group in {"tensor": [coded], "channel": tokens.T, "token": tokens}[groups]:
        assert len(group.unique()) <= 2**bits


def test_a_massive_channel_ruins_a_shared_scale_only() -> None:
    values = torch.randn((1, 50, 8), generator=torch.Generator().manual_seed(0))
    values[..., 3] += 1000
    ordinary = [0, 1, 2, 4, 5, 6, 7]

    def error(groups: str) -> float:
        coded = fake_quantise(values, AXES, 8, groups)
        return float((coded - values)[..., ordinary].square().mean())

    assert error("tensor") > 1000 * error("channel")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_dtype_and_constants_are_kept(dtype: torch.dtype) -> None:
    values = torch.full((1, 3, 2), 0.1, dtype=dtype)
    for groups in GROUPS:
        coded = fake_quantise(values, AXES, 2, groups)
        assert coded.dtype == dtype
        assert torch.equal(coded, values)


def test_crops_and_views_are_planes_of_their_own() -> None:
    values = torch.stack([torch.arange(6.0).reshape(3, 2), torch.arange(6.0).reshape(3, 2) * 1000])
    coded = fake_quantise(values, ("crop", "token", "dim"), 2, "channel")
    assert torch.equal(coded[0], fake_quantise(values[0], ("token", "dim"), 2, "channel"))


def test_a_vector_has_one_pair_of_bounds() -> None:
    values = torch.tensor([0.0, 1.0, 0.4])
    assert fake_quantise(values, ("dim",), 1, "channel").tolist() == [0, 1, 0]


def test_what_cannot_be_quantised_is_refused() -> None:
    values = torch.zeros(2, 2)
    with pytest.raises(ValueError, match="bits: 0"):
        fake_quantise(values, ("token", "dim"), 0, "tensor")
    with pytest.raises(ValueError, match="2 axes"):
        fake_quantise(values, ("dim",), 4, "tensor")
    with pytest.raises(ValueError, match="not finite"):
        fake_quantise(values / 0, ("token", "dim"), 4, "tensor")
