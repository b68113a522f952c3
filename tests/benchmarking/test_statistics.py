from __future__ import annotations

import math

import numpy as np
import pytest

from ttame.benchmarking import statistics
from ttame.benchmarking.statistics import bootstrap_interval, bootstrap_intervals
from ttame.errors import InputError


def test_known_case_of_a_binomial_mean():
    # Half zeros, half hundreds: the resampled mean is 100/400 * Binomial(400, 0.5), nearly normal.
    values = np.repeat([0.0, 100.0], 200)
    low, high = bootstrap_interval(values, resamples=4000)
    assert low == pytest.approx(50 - 1.96 * 2.5, abs=0.4)
    assert high == pytest.approx(50 + 1.96 * 2.5, abs=0.4)


def test_equals_resampling_by_hand():
    values = np.random.default_rng(1).normal(size=60)
    generator = np.random.default_rng(2)
    means = [generator.choice(values, 60).mean() for _ in range(4000)]
    low, high = bootstrap_interval(values, level=0.9, resamples=4000)
    assert [low, high] == pytest.approx(np.quantile(means, [0.05, 0.95]).tolist(), abs=0.02)


def test_quantiles_of_students_t_equal_scipys():
    stats = pytest.importorskip("scipy.stats")
    for level in (0.8, 0.9, 0.95):
        z = stats.norm.ppf(1 - (1 - level) / 2)
        for freedom in (2, 3, 9, 99):
            expected = stats.t.ppf(1 - (1 - level) / 2, freedom)
            assert statistics._student_quantile(z, freedom) == pytest.approx(expected, rel=0.01)


def test_the_interval_of_few_images_covers_the_truth_more_often_than_the_plain_one():
    generator = np.random.default_rng(0)
    samples = generator.exponential(size=(8, 400))  # 400 draws of 8 images with the mean 1
    low, high = bootstrap_intervals(samples, resamples=1000)
    covered = ((low <= 1) & (high >= 1)).mean()
    means = samples[generator.integers(0, 8, (1000, 8))].mean(axis=1)
    plain_low, plain_high = np.quantile(means, [0.025, 0.975], axis=0)
    plain = ((plain_low <= 1) & (plain_high >= 1)).mean()
    assert plain < 0.85 < 0.87 < covered
    width = np.median((high - low) / (plain_high - plain_low))
    assert 1.15 < width < 1.4


def test_seeded_shared_draws_and_blocks(monkeypatch):
    values = np.random.default_rng(0).normal(size=(50, 3))
    lows, highs = bootstrap_intervals(values)
    assert (float(lows[1]), float(highs[1])) == pytest.approx(bootstrap_interval(values[:, 1]))
    assert bootstrap_interval(values[:, 0]) != bootstrap_interval(values[:, 0], seed=1)
    monkeypatch.setattr(statistics, "_BLOCK", 64)
    np.testing.assert_allclose(bootstrap_intervals(values), [lows, highs])


def test_ends_stay_within_the_values():
    low, high = bootstrap_interval([0.0] * 23 + [100.0])
    assert low == 0
    assert math.copysign(1, low) == 1
    assert 0 < high < 30


def test_few_images():
    assert bootstrap_interval([4.0]) == (4.0, 4.0)
    assert all(math.isnan(end) for end in bootstrap_interval([]))


@pytest.mark.parametrize(
    "options", [{"level": 1.0}, {"level": 0}, {"resamples": 0}, {"values": [[1.0]]}]
)
def test_wrong_values_are_refused(options):
    with pytest.raises(InputError, match="expected"):
        bootstrap_interval(**{"values": [1.0, 2.0], **options})
