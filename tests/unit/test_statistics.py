import numpy as np
import pytest

from lamofcbench.metrics.statistics import Statistics, as_rows, statistics


def measure(rows: np.ndarray) -> Statistics:
    return statistics([rows], ["token", "dim"])


def test_a_normal_tensor_is_plain() -> None:
    rows = np.random.default_rng(0).normal(size=(4000, 32))
    found = measure(rows)
    assert found.kurtosis == pytest.approx(3, abs=0.1)
    assert found.deviation_ratio < 1.1
    assert found.mean_deviation < 0.1
    assert found.channel_share == pytest.approx(3 / 32, abs=0.01)
    assert found.token_share < 0.001
    assert found.effective_rank == pytest.approx(32, rel=0.01)
    assert (found.minimum, found.maximum) == (rows.min(), rows.max())


def test_a_massive_channel_and_a_sink_show() -> None:
    rows = np.random.default_rng(0).normal(size=(50, 64))
    rows[:, 7] += 100
    massive = measure(rows)
    assert massive.kurtosis == pytest.approx(64, rel=0.1)
    assert massive.mean_deviation == pytest.approx(100, rel=0.3)
    assert massive.channel_share > 0.99
    rows[0, 9] = 5000
    sunk = measure(rows)
    assert sunk.kurtosis > 2000
    assert sunk.token_share > 0.9
    assert sunk.deviation_ratio > 500
    assert sunk.effective_rank < massive.effective_rank


def test_rank_counts_directions() -> None:
    assert measure(np.eye(5)).effective_rank == pytest.approx(5)
    assert measure(np.outer(np.arange(1, 9), [1.0, 2, 3])).effective_rank == pytest.approx(1)
    assert measure(np.zeros((3, 2))).effective_rank == 0


def test_axes_say_what_is_a_channel() -> None:
    cache = np.arange(24.0).reshape(2, 3, 4)  # head, token, dim
    rows = as_rows(cache, ["head", "token", "dim"])
    assert rows.shape == (3, 8)
    assert rows[1].tolist() == [4, 5, 6, 7, 16, 17, 18, 19]
    assert as_rows(np.zeros((6, 4)), ["channel", "state"]).shape == (4, 6)
    assert as_rows(np.zeros((2, 5, 3)), ["crop", "token", "dim"]).shape == (10, 3)
    assert as_rows(np.zeros(7), ["dim"]).shape == (1, 7)


def test_samples_may_differ_in_length() -> None:
    found = statistics([np.ones((2, 3)), np.full((4, 3), 3.0)], ["token", "dim"])
    # Shares of a token are of its own sample.
    assert found.token_share == pytest.approx((1 / 2 + 1 / 4) / 2)
    assert found.mean_deviation == pytest.approx((7 / 3) / np.std([1, 1, 3, 3, 3, 3]))


def test_nothing_and_nan_are_refused() -> None:
    with pytest.raises(ValueError, match="no samples"):
        statistics([], ["dim"])
    with pytest.raises(ValueError, match="not finite"):
        measure(np.array([[1.0, np.nan]]))
    with pytest.raises(ValueError, match="1 axes"):
        statistics([np.zeros(3)], ["token", "dim"])
