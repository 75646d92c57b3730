"""Frechet distance: closed forms, and the definition with a slow matrix root."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import sqrtm

from lmaczs.metrics.frechet import extrapolated_distance, frechet_distance


def normal(count: int, dim: int, seed: int, scale: float = 1.0) -> np.ndarray:
    """Correlated normal vectors [count, dim]."""
    rng = np.random.default_rng(seed)
    return scale * rng.normal(size=(count, dim)) @ rng.normal(size=(dim, dim))


def whitened(values: np.ndarray) -> np.ndarray:
    """The same set with mean 0 and the sample covariance of the identity."""
    centred = values - values.mean(0)
    root = np.linalg.cholesky(np.cov(centred.T))
    return centred @ np.linalg.inv(root).T


def slow(first: np.ndarray, second: np.ndarray) -> float:
    """The definition, with scipy's root of a matrix."""
    one, other = (np.atleast_2d(np.cov(x.T)) for x in (first, second))
    gap = np.sum((first.mean(0) - second.mean(0)) ** 2)
    return float(gap + np.trace(one + other - 2 * sqrtm(one @ other).real))


@settings(max_examples=25, deadline=None)
@given(
    st.integers(20, 60), st.integers(20, 60), st.integers(1, 6), st.integers(0, 2**31)
)
def test_it_is_the_definition(one: int, other: int, dim: int, seed: int) -> None:
    """As by the root of a matrix, and the same the other way round."""
    first, second = normal(one, dim, seed), normal(other, dim, seed + 1, 3) + 1
    found = frechet_distance(first, second)
    assert found == pytest.approx(slow(first, second), rel=1e-6)
    assert found == pytest.approx(frechet_distance(second, first), rel=1e-9)


def test_of_one_dimension_it_is_that_of_two_normal_laws() -> None:
    """(m1 - m2)^2 + (s1 - s2)^2."""
    first, second = normal(50, 1, 1), normal(70, 1, 2, 4) + 3
    means = first.mean() - second.mean()
    spreads = first.std(ddof=1) - second.std(ddof=1)
    expected = means**2 + spreads**2
    assert frechet_distance(first, second) == pytest.approx(expected)


def test_equal_sets_have_none_and_shifted_ones_the_squared_shift() -> None:
    """Whatever their covariance, a singular one included."""
    for values in (normal(40, 8, 3), normal(5, 8, 4), np.ones((4, 8))):
        shift = np.arange(8.0)
        assert frechet_distance(values, values) == pytest.approx(0, abs=1e-9)
        assert frechet_distance(values, values[::-1]) == pytest.approx(0, abs=1e-9)
        found = frechet_distance(values, values + shift)
        assert found == pytest.approx(np.sum(shift**2), rel=1e-9)


def test_of_scaled_axes_it_is_the_sum_over_axes() -> None:
    """Covariances that commute: the squared differences of their roots."""
    scales = np.array([1.0, 2.0, 5.0, 0.0])
    values = whitened(normal(60, 4, 5))
    expected = np.sum((scales - 1) ** 2)
    assert frechet_distance(values, values * scales) == pytest.approx(expected)


def test_more_dimensions_than_clips_are_no_obstacle() -> None:
    """It is finite and that of the definition in double precision."""
    first, second = normal(12, 30, 6), normal(9, 30, 7) + 0.5
    found = frechet_distance(first, second)
    assert found == pytest.approx(slow(first, second), rel=1e-4)


def test_small_samples_are_biased_and_the_extrapolation_less_so() -> None:
    """Two draws of one law: the distance falls with N, and its limit is near 0."""
    rng = np.random.default_rng(8)
    first, second = rng.normal(size=(2, 800, 16))
    small = frechet_distance(first[:100], second[:100])
    whole = frechet_distance(first, second)
    assert small > 4 * whole > 0
    assert abs(extrapolated_distance(first, second)) < whole / 4


def test_extrapolation_depends_on_the_seed_alone() -> None:
    """The same draw twice; of two clips each there is nothing to extrapolate."""
    first, second = normal(60, 3, 9), normal(50, 3, 10)
    twice = [extrapolated_distance(first, second, seed=5) for _ in range(2)]
    assert twice[0] == twice[1] != extrapolated_distance(first, second, seed=6)
    pair = first[:2], second[:2]
    assert extrapolated_distance(*pair) == frechet_distance(*pair)


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        (np.ones((1, 3)), np.ones((4, 3)), "two at least"),
        (np.ones((5, 3)), np.ones((4, 2)), r"\(5, 3\) and \(4, 2\), not \[N, D\]"),
        (np.ones(3), np.ones((4, 3)), r"not \[N, D\]"),
    ],
)
def test_what_has_no_distance_is_refused(
    first: np.ndarray, second: np.ndarray, message: str
) -> None:
    """One clip, or embeddings of two models."""
    with pytest.raises(ValueError, match=message):
        frechet_distance(first, second)
