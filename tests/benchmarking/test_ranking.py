from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ttame.benchmarking.ranking import (
    critical_difference,
    friedman,
    photo_ranks,
    studentised_range_quantile,
)
from ttame.errors import InputError


@given(arrays(np.float64, (4, 5), elements=st.integers(0, 3).map(float)))
def test_ranks_share_ties_and_turn_with_the_direction(values):
    ranks = photo_ranks(values, higher_is_better=False)
    assert ranks.sum(axis=1).tolist() == [15.0] * 4
    np.testing.assert_array_equal(photo_ranks(values, higher_is_better=True), 6 - ranks)


def test_ranks_equal_scipy():
    stats = pytest.importorskip("scipy.stats")
    values = np.random.default_rng(0).integers(0, 6, (30, 7)).astype(float)
    np.testing.assert_array_equal(photo_ranks(values, False), stats.rankdata(values, axis=1))


def test_methods_that_differ_by_rounding_share_their_ranks():
    values = np.random.default_rng(0).uniform(0, 100, (20, 4))
    values[:, 2] = values[:, 1] + np.random.default_rng(1).uniform(-5e-3, 5e-3, 20)
    ranks = photo_ranks(values, higher_is_better=True)
    np.testing.assert_array_equal(ranks[:, 1], ranks[:, 2])
    assert ranks.sum(axis=1).tolist() == [10.0] * 20
    # One photo of a wide range does not tie the others.
    values = np.array([[0.0, 0.05, 0.09], [1.0, 2.0, 3.0], [0.0, 1000.0, 5.0]])
    assert photo_ranks(values, higher_is_better=False)[0].tolist() == [1, 2, 3]
    endless = np.array([[1.0, 2.0, np.inf], [1.0, np.inf, np.inf]])
    assert photo_ranks(endless, higher_is_better=False).tolist() == [[1, 2, 3], [1, 2.5, 2.5]]
    assert photo_ranks(np.zeros((0, 3)), True).shape == (0, 3)


def test_friedman_equals_scipy():
    stats = pytest.importorskip("scipy.stats")
    for ties in (3, 1000):
        values = np.random.default_rng(ties).integers(0, ties, (25, 6)) + np.arange(6) * ties / 20
        expected = stats.friedmanchisquare(*values.T)
        found = friedman(photo_ranks(values, higher_is_better=True))
        assert found == pytest.approx((expected.statistic, expected.pvalue))


def test_friedman_without_anything_to_compare():
    assert friedman(photo_ranks(np.zeros((5, 3)), True)) == (0, 1)
    assert friedman(np.zeros((0, 3))) == (0, 1)
    assert friedman(np.ones((4, 1))) == (0, 1)


# Quantiles over the square root of 2, from Demsar, JMLR 2006, table 5.
@pytest.mark.parametrize(("methods", "expected"), [(2, 1.960), (3, 2.343), (6, 2.850), (10, 3.164)])
def test_quantiles_equal_the_published_table(methods, expected):
    quantile = studentised_range_quantile(0.95, methods) / math.sqrt(2)
    assert quantile == pytest.approx(expected, abs=1e-3)


def test_quantiles_equal_scipy():
    stats = pytest.importorskip("scipy.stats")
    for level, methods in [(0.9, 5), (0.95, 26), (0.99, 15)]:
        expected = stats.studentized_range.ppf(level, methods, np.inf)
        assert studentised_range_quantile(level, methods) == pytest.approx(expected, rel=1e-4)


def test_wrong_values_are_refused():
    with pytest.raises(InputError, match="at least 2 methods"):
        critical_difference(1, 10)
    with pytest.raises(InputError, match="1 NaN"):
        photo_ranks([[1.0, math.nan]], True)
