"""Planes for networks: scaling and padding."""

import numpy as np
import pytest

from lamofcbench.codecs.learned.planes import SCALINGS, Bounds, Codebook, pad, padded_size, unpad


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
    values = np.random.default_rng(1).normal(0, 30, 5000).astype(np.float32)
    kind = SCALINGS[name]
    scaling = kind.of(kind.fit([kind.summary(values)]).numbers)
    plane = scaling.scale(values.astype(np.float64))
    assert plane.dtype == np.float32
    assert 0 <= plane.min() < 0.1
    assert 0.9 < plane.max() <= 1
    error = np.abs(scaling.restore(plane) - values)
    assert error.mean() < 0.5
    beyond = scaling.restore(scaling.scale(np.array([-1e6, 1e6])))
    ends = scaling.restore(np.array([0, 1], np.float32))
    assert np.array_equal(beyond, ends)


def test_bounds_are_exact_and_floor_is_never_above() -> None:
    values = np.array([-3.0, 0.5, 7.25], np.float32)
    bounds = Bounds.fit([Bounds.summary(values)])
    assert (bounds.low, bounds.high) == (-3.0, 7.25)
    codebook = Codebook(np.array([-1, 2, 4], np.float32))
    given = np.array([-5, -1, 1.9, 2, 3.9, 9], np.float64)
    assert codebook.restore(codebook.scale(given)).tolist() == [-1, -1, -1, 2, 2, 4]


@pytest.mark.parametrize(
    ("name", "numbers"),
    [
        ("bounds", [1, 0]),
        ("bounds", [0]),
        ("bounds", [0, float("nan")]),
        ("floor", []),
        ("floor", [0.0] * 257),
        ("floor", [[0.0]]),
    ],
)
def test_what_cannot_be_a_scaling_is_refused(name: str, numbers: list[float]) -> None:
    with pytest.raises(ValueError, match="none"):
        SCALINGS[name].of(np.array(numbers, np.float32))
