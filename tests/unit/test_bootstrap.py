import numpy as np
import pytest

from lamofcbench.metrics.bootstrap import interval, resampled
from lamofcbench.scores.base import mean, quotient


def test_the_same_seed_draws_the_same() -> None:
    assert np.array_equal(resampled(20, seed=3), resampled(20, seed=3))
    assert not np.array_equal(resampled(20, seed=3), resampled(20, seed=4))
    assert (resampled(20).sum(1) == 20).all()


def test_intervals_cover_the_truth_as_often_as_they_say() -> None:
    random = np.random.default_rng(0)
    covered = 0
    for seed in range(400):
        rows = random.exponential(2.0, size=(100, 1))
        found = interval(mean, rows, resampled(100, seed))
        covered += found.low <= 2.0 <= found.high
    # 95 % of 400 are 380, give or take 9; percentile intervals of skewed data fall a little short.
    assert 360 <= covered <= 392


def test_a_quotient_is_of_sums() -> None:
    rows = np.array([[1.0, 10.0], [9.0, 10.0], [0.0, 80.0]])
    found = interval(quotient, rows, resampled(3))
    assert found.value == pytest.approx(0.1)
    assert found.low < 0.1 < found.high


def test_pairing_removes_what_samples_have_in_common() -> None:
    random = np.random.default_rng(0)
    difficulty = random.normal(0, 10, size=(100, 1))
    worse = difficulty + 1 + random.normal(0, 0.1, size=(100, 1))
    weights = resampled(100)
    alone = interval(mean, worse, weights)
    paired = interval(mean, worse, weights, against=difficulty)
    assert paired.value == pytest.approx(1, abs=0.05)
    assert paired.low > 0.9
    assert alone.high - alone.low > 20 * (paired.high - paired.low)
    nothing = interval(mean, worse, weights, against=worse)
    assert (nothing.value, nothing.low, nothing.high) == (0, 0, 0)


def test_no_samples_are_refused() -> None:
    with pytest.raises(ValueError, match="no samples"):
        resampled(0)
    with pytest.raises(ValueError, match="no samples"):
        interval(mean, np.zeros((0, 1)), np.zeros((5, 0)))


def test_what_doubles_inflate_is_recentred() -> None:
    def distinct(rows: np.ndarray, weights: np.ndarray) -> np.ndarray:
        return -(weights > 0).sum(1).astype(float)

    rows, weights = np.zeros((50, 1)), resampled(50)
    assert interval(distinct, rows, weights).low > -50
    found = interval(distinct, rows, weights, recentred=True)
    assert found.low < found.value == -50 < found.high
