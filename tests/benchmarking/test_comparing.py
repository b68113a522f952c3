from __future__ import annotations

import itertools

import numpy as np
import pytest

from ttame.benchmarking import comparing
from ttame.benchmarking.comparing import holm, sign_flip_p_values
from ttame.errors import InputError


def by_hand(values):
    sums = [abs(np.dot(signs, values)) for signs in itertools.product([1, -1], repeat=len(values))]
    return np.mean(np.array(sums) >= abs(sum(values)) - 1e-9)


def test_few_photos_are_tested_exactly():
    values = np.random.default_rng(0).normal(0.5, 1, (9, 3)).round(2)
    expected = [by_hand(column) for column in values.T]
    assert sign_flip_p_values(values) == pytest.approx(expected)
    assert sign_flip_p_values([[3.0]])[0] == 1


def test_many_photos_agree_with_scipy():
    stats = pytest.importorskip("scipy.stats")
    generator = np.random.default_rng(1)
    for shift in (0.0, 0.1, 0.25):
        values = generator.normal(shift, 1, 120)
        expected = stats.ttest_1samp(values, 0).pvalue
        assert sign_flip_p_values(values[:, None])[0] == pytest.approx(expected, abs=0.015)


def test_the_test_keeps_its_level():
    values = np.random.default_rng(2).standard_t(3, (40, 400))
    assert (sign_flip_p_values(values, flips=499) <= 0.05).mean() == pytest.approx(0.05, abs=0.025)


def test_bounds_seeds_and_blocks(monkeypatch):
    far = np.full((30, 1), 2.0)
    assert sign_flip_p_values(far, flips=999)[0] == 1 / 1000
    assert sign_flip_p_values(np.zeros((30, 1)))[0] == 1
    assert np.isnan(sign_flip_p_values(np.zeros((0, 2)))).all()
    values = np.random.default_rng(3).normal(0.2, 1, (30, 2))
    p_values = sign_flip_p_values(values)
    np.testing.assert_array_equal(p_values, sign_flip_p_values(-values))
    np.testing.assert_array_equal(p_values[1:], sign_flip_p_values(values[:, 1:]))
    assert not np.array_equal(p_values, sign_flip_p_values(values, seed=1))
    monkeypatch.setattr(comparing, "_BLOCK", 30 * 9999)
    np.testing.assert_array_equal(p_values, sign_flip_p_values(values))


def test_holm():
    # Sorted 0.01, 0.02, 0.03, 0.6 times 4, 3, 2, 1; never smaller than the one before.
    assert holm([0.6, 0.02, 0.01, 0.03]) == pytest.approx([0.6, 0.06, 0.04, 0.06])
    assert holm([0.5, float("nan"), 0.9]) == pytest.approx([1.0, float("nan"), 1.0], nan_ok=True)
    assert holm([]) == []


def test_wrong_values_are_refused():
    with pytest.raises(InputError, match="photos x pairs"):
        sign_flip_p_values([1.0, 2.0])
    with pytest.raises(InputError, match="flips=0"):
        sign_flip_p_values([[1.0]], flips=0)
