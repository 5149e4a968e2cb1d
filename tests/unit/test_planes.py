"""Planes for networks: scaling and padding."""

import numpy as np
import pytest
import torch

from lamofcbench.codecs.learned.planes import (
    SCALINGS,
    ChannelBounds,
    Codebook,
    pad,
    padded_size,
    unpad,
)


@pytest.mark.parametrize("size", [(1, 1), (64, 64), (65, 128), (20, 33), (63, 1)])
def test_padding_is_centred_zeros_and_comes_off(size: tuple[int, int]) -> None:
    plane = np.random.default_rng(0).random(size).astype(np.float32) + 1
    padded = pad(plane)
    assert padded.shape == padded_size(size)
    assert padded_size(size) == tuple(-(-side // 64) * 64 for side in size)
    assert np.count_nonzero(padded) == plane.size
    for axis in (0, 1):
        filled = np.flatnonzero(padded.any(1 - axis))
        before, after = filled[0], padded.shape[axis] - 1 - filled[-1]
        assert after - before in (0, 1)
    assert np.array_equal(unpad(padded, size), plane)


@pytest.mark.parametrize("name", SCALINGS)
def test_scaled_values_come_back(name: str) -> None:
    values = np.random.default_rng(1).normal(0, 30, (500, 10)).astype(np.float32)
    kind, axes = SCALINGS[name], ("token", "dim")
    summary = kind.summary(torch.from_numpy(values), axes)
    scaling = kind.of(kind.fit([summary, summary]).numbers)
    assert scaling.takes((7, 10))
    plane = scaling.scale(values.astype(np.float64))
    assert plane.dtype == np.float32
    assert 0 <= plane.min() < 0.1
    assert 0.9 < plane.max() <= 1
    error = np.abs(scaling.restore(plane) - values)
    assert error.mean() < 0.5
    far = np.full((2, 10), 1e6) * [[-1], [1]]
    ends = scaling.restore(np.array([[0], [1]], np.float32) + np.zeros((2, 10), np.float32))
    assert np.array_equal(scaling.restore(scaling.scale(far)), ends)


def test_channels_have_bounds_of_their_own() -> None:
    values = torch.tensor([[[1.0, 9000.0], [3.0, 8000.0]], [[0.0, 0.0], [0.0, 5.0]]])
    scaling = ChannelBounds.fit([ChannelBounds.summary(values, ("head", "token", "dim"))])
    wide = values.double().numpy()
    assert scaling.scale(wide).tolist() == [[[0, 1], [1, 0]], [[0, 0], [0, 1]]]
    assert np.array_equal(scaling.restore(scaling.scale(wide)), wide)
    assert scaling.takes((2, 77, 2))
    assert not any(scaling.takes(shape) for shape in [(1, 2, 2), (2, 2, 3), (2, 2)])


def test_crops_share_the_bounds_of_channels() -> None:
    torch.manual_seed(0)
    crops = torch.randn(3, 5, 4) * torch.tensor([1.0, 10, 100, 1])
    scaling = ChannelBounds.fit([ChannelBounds.summary(crops, ("crop", "token", "dim"))])
    assert np.array_equal(scaling.numbers[1].ravel(), crops.amax((0, 1)).numpy())
    # So that what was fitted to crops serves more of them, and a tensor that has none.
    for values in (crops, torch.cat([crops, crops]), crops[0]):
        assert scaling.takes(values.shape)
        scaled = scaling.scale(values.double().numpy())
        assert scaled.shape == values.shape
        assert 0 <= scaled.min() <= scaled.max() <= 1
        assert np.allclose(scaling.restore(scaled), values, rtol=1e-5, atol=1e-4)
    assert not scaling.takes((3, 5, 5))


def test_floor_is_never_above() -> None:
    codebook = Codebook(np.array([-1, 2, 4], np.float32))
    given = np.array([-5, -1, 1.9, 2, 3.9, 9], np.float64)
    assert codebook.restore(codebook.scale(given)).tolist() == [-1, -1, -1, 2, 2, 4]


def test_a_codebook_of_much_sees_every_channel_and_the_extremes() -> None:
    values = torch.arange(64.0) * 100 + torch.zeros(4096, 1)
    values[7, 3] = -5000
    summary = Codebook.summary(values, ("token", "dim"))
    assert len(summary) < values.numel() / 3
    codebook = Codebook.fit([summary])
    assert set(codebook.numbers.tolist()) == {-5000, *(100.0 * i for i in range(64))}


@pytest.mark.parametrize("name", SCALINGS)
def test_no_values_to_fit_to_give_a_scaling_all_the_same(name: str) -> None:
    scaling = SCALINGS[name].fit([])
    assert scaling.restore(scaling.scale(np.ones((3, 4)))).tolist() == np.zeros((3, 4)).tolist()


@pytest.mark.parametrize(
    ("name", "numbers"),
    [
        ("bounds", [1, 0]),
        ("bounds", [0]),
        ("bounds", [0, float("nan")]),
        ("channel", [[0, 2], [1, 1]]),
        ("floor", []),
        ("floor", [2.0, 1.0]),
        ("floor", [0.0] * 257),
        ("floor", [[0.0]]),
    ],
)
def test_what_cannot_be_a_scaling_is_refused(name: str, numbers: list[float]) -> None:
    with pytest.raises(ValueError, match="none"):
        SCALINGS[name].of(np.array(numbers, np.float32))
