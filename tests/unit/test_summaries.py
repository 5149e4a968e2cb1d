"""Delta rates and rates at targets."""

import numpy as np
import pytest

from lamofcbench.metrics.bd import bd_rate, monotone
from lamofcbench.metrics.targets import rate_at

RATES = [1.0, 2.0, 3.0, 4.0, 6.0, 8.0]
VALUES = [0.2, 0.5, 0.7, 0.85, 0.95, 0.99]


def test_a_curve_against_itself_is_0() -> None:
    assert bd_rate((RATES, VALUES), (RATES, VALUES), 0, 1).percent == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize(("factor", "percent"), [(2, 100), (0.5, -50), (1.25, 25)])
def test_a_factor_on_every_rate_is_the_delta(factor: float, percent: float) -> None:
    scaled = [rate * factor for rate in RATES]
    assert bd_rate((RATES, VALUES), (scaled, VALUES), 0, 1).percent == pytest.approx(percent)
    shuffled = (scaled[::-1], VALUES[::-1])
    assert bd_rate((RATES, VALUES), shuffled, 0, 1).percent == pytest.approx(percent)


def test_only_the_overlap_counts() -> None:
    """Below the overlap the codec is ten times as dear; that is nobody's business."""
    other = [0.5 * rate for rate in RATES]
    dear = ([*other, 0.001], [*VALUES, 0.1])
    inside = bd_rate((RATES, VALUES), dear, 0, 1).percent
    # Its slope at the lower end feels the extra point, no more.
    assert inside == pytest.approx(-50, abs=3)


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ([1.0, 1.0, 1.0, 1.0, 1.0, 1.0], "the codec has 0 levels"),
        ([0.1, 0.1, 0.1, 0.7, 0.8, 0.9], "the codec has 3 levels"),
        ([0.1, 0.1, 0.05, 0.7, 0.69, 0.9], "the codec has 2 levels"),
        ([0.991, 0.992, 0.993, 0.994, 0.995, 0.996], "do not overlap"),
    ],
)
def test_too_little_gives_none_and_the_reason(values: list[float], reason: str) -> None:
    found = bd_rate((RATES, VALUES), (RATES, values), 0.1, 1)
    assert found.percent is None
    assert reason in found.reason


def test_noise_is_pooled_before_anything_is_interpolated() -> None:
    logs, levels = monotone([1, 2, 4, 8], [0.1, 0.6, 0.4, 0.9])
    assert levels == pytest.approx([0.1, 0.5, 0.9])
    assert np.exp(logs) == pytest.approx([1, 8**0.5, 8])


def test_a_rate_is_interpolated_in_its_logarithm() -> None:
    found = rate_at(np.array([8.0, 2.0]), np.array([0.0, 0.2]), 0.1)
    assert found.rate == pytest.approx(4)
    steep = rate_at(np.array([8.0, 2.0]), np.array([1e-4, 1.0]), 1e-2, logarithmic=True)
    assert steep.rate == pytest.approx(4)


def test_of_several_crossings_the_highest_counts() -> None:
    found = rate_at(np.array([1.0, 2.0, 4.0, 16.0]), np.array([0.3, 0.0, 0.2, 0.0]), 0.1)
    assert found.rate == pytest.approx(8)


@pytest.mark.parametrize(
    ("values", "reason"), [([0.5, 0.2], "not reached at 8"), ([0.1, 0.0], "already reached at 2")]
)
def test_what_is_not_bracketed_has_no_rate(values: list[float], reason: str) -> None:
    found = rate_at(np.array([2.0, 8.0]), np.array(values), 0.1)
    assert found.rate is None
    assert reason in found.reason


def test_an_interval_holds_the_rate_and_is_open_where_draws_are_not_bracketed() -> None:
    random = np.random.default_rng(0)
    rates, values = np.array([1.0, 2.0, 4.0, 8.0]), np.array([0.4, 0.2, 0.08, 0.02])
    many = np.broadcast_to(rates, (500, 4))
    narrow = values + random.normal(0, 0.005, (500, 4))
    found = rate_at(rates, values, 0.1, (many, narrow))
    assert found.rate is not None
    assert found.low is not None
    assert found.high is not None
    assert 2 < found.low < found.rate < found.high < 5
    wide = values + random.normal(0, 0.2, (500, 1))
    found = rate_at(rates, values, 0.1, (many, wide))
    assert found.high is None
