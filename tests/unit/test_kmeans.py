import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamofcbench.quant.kmeans import assign, fit_codebook


def test_nearest_has_about_a_quarter_of_the_floors_error() -> None:
    values = np.random.default_rng(0).normal(size=20_000)
    codebook = fit_codebook(values, 256)
    nearest, floor = (
        ((codebook[assign(values, codebook, floor=rule)] - values) ** 2).mean()
        for rule in (False, True)
    )
    assert floor / nearest == pytest.approx(4, rel=0.15)


def test_lloyd_beats_uniform_steps() -> None:
    values = np.random.default_rng(0).standard_t(3, size=20_000)
    codebook = fit_codebook(values, 16)
    even = np.linspace(values.min(), values.max(), 16)
    error, plain = (((c[assign(values, c)] - values) ** 2).mean() for c in (codebook, even))
    assert error < plain / 3


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=60), st.integers(1, 20))
def test_codebooks_are_sorted_and_reproducible(values: list[float], size: int) -> None:
    array = np.array(values)
    codebook = fit_codebook(array, size)
    assert 1 <= len(codebook) <= size
    assert (np.diff(codebook) >= 0).all()
    assert np.array_equal(fit_codebook(array[::-1], size), codebook)
    assert codebook[0] >= array.min() - 1e-6
    assert codebook[-1] <= array.max() + 1e-6
    places = assign(array, codebook)
    errors = np.abs(array[:, None] - codebook[None])
    assert np.allclose(np.abs(array - codebook[places]), errors.min(1), rtol=1e-9, atol=1e-9)


def test_few_distinct_values_are_kept_exactly() -> None:
    values = np.array([3.0, -1, 3, 7, -1])
    assert fit_codebook(values, 8).tolist() == [-1, 3, 7]
    assert assign(np.array([-5.0, 2.9, 100]), np.array([-1.0, 3, 7]), floor=True).tolist() == [
        0,
        0,
        2,
    ]


@pytest.mark.parametrize("values", [[], [1.0, float("nan")]])
def test_nothing_to_fit_is_refused(values: list[float]) -> None:
    with pytest.raises(ValueError, match="finite values"):
        fit_codebook(np.array(values), 4)
