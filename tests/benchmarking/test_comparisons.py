from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from ttame.benchmarking.comparisons import compare
from ttame.benchmarking.means import Mean, leaders
from ttame.metrics.measure import Metric

METRICS = {"ad": Metric("AD", False), "ic": Metric("IC", True), "area": Metric("area", None)}


def frame(**columns):
    """Rows of every method: photos x (ad, ic)."""
    rows = [
        {"set": "photos", "file": f"{i:02d}", "class_index": 0, "method": method, **values}
        for method, (ad, ic) in columns.items()
        for i, values in enumerate({"ad": a, "ic": b, "area": 0.5} for a, b in zip(ad, ic))  # noqa: B905
    ]
    return pd.DataFrame(rows)


def test_everyone_is_compared_with_the_best():
    noise = np.random.default_rng(0).normal(size=40)
    table = frame(
        good=(noise, noise),
        close=(noise + 0.001 * noise[::-1], noise - 0.1),
        bad=(noise + 3, noise - 3),
    )
    found = compare(table, ["good", "close", "bad"], METRICS)
    assert set(found["metrics"]) == {"ad", "ic"}
    ad = found["metrics"]["ad"]
    assert ad["best"] in ("good", "close")
    bad = ad["methods"]["bad"]
    assert bad["difference"] == pytest.approx(3, abs=0.01)
    assert bad["low"] <= bad["difference"] <= bad["high"]
    assert bad["significant"]
    assert bad["p_holm"] == pytest.approx(2 * bad["p"])
    assert bad["n"] == 40
    (other,) = {"good", "close"} - {ad["best"]}
    assert not ad["methods"][other]["significant"]
    ic = found["metrics"]["ic"]
    assert ic["best"] == "good"
    assert ic["methods"]["bad"]["difference"] == pytest.approx(-3)
    assert ic["ranks"] == {"good": 1, "close": 2, "bad": 3}
    assert ic["ranked_photos"] == 40
    # Demsar 2006: 2.343 * sqrt(3 * 4 / (6 * 40)).
    assert ic["critical_difference"] == pytest.approx(0.5239, abs=1e-3)
    assert ic["friedman"]["p"] < 1e-6
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_pairs_are_photos_that_both_have():
    nan = float("nan")
    table = frame(a=([1.0, 2, 3, 4], [0.0] * 4), b=([9.0, 9, nan, nan], [nan] * 4))
    found = compare(table, ["a", "b"], METRICS)["metrics"]
    assert found["ad"]["methods"]["b"]["n"] == 2
    assert found["ad"]["methods"]["b"]["difference"] == 7.5
    assert found["ad"]["best"] == "a"
    assert found["ad"]["ranked_photos"] == 0  # nobody else has all of a's photos
    assert "ic" not in found


def test_controls_that_are_no_rivals_do_not_change_the_others():
    noise = np.random.default_rng(0).normal(size=12)
    two = frame(a=(noise, noise), b=(noise[::-1], noise))
    three = frame(a=(noise, noise), b=(noise[::-1], noise), control=(noise - 9, noise))
    assert compare(two, ["a", "b"], METRICS) == compare(three, ["a", "b"], METRICS)


def test_one_photo_with_two_objects_of_a_class():
    table = pd.concat([frame(a=([1.0], [1.0]), b=([2.0], [2.0]))] * 2)
    assert compare(table, ["a", "b"], METRICS)["metrics"]["ad"]["methods"]["b"]["n"] == 2


def test_equal_means_are_equal_whatever_the_order_of_the_values():
    generator = np.random.default_rng(12)
    for _ in range(50):
        values = generator.integers(0, 8, 101) * (100 / 7)
        table = frame(first=(values, values), second=(generator.permutation(values), values))
        found = compare(table, ["first", "second"], METRICS)["metrics"]["ad"]
        assert found["best"] == "first"
        means = table.groupby("method")["ad"].mean()
        several = {name: Mean(means[name], 0.0, 0.0, 101) for name in ("first", "second")}
        assert leaders(several, False) == {"first", "second"}


def test_a_few_good_photos_make_no_best_method():
    photos = [f"{index}.jpg" for index in range(40)]
    fast = pd.DataFrame(
        {
            "set": "photos",
            "file": photos,
            "class_index": 0,
            "method": "fast",
            "ad_100": [1.0] * 10 + [50.0] * 30,
        }
    )
    other = fast.assign(method="other", ad_100=fast["ad_100"] + 5)
    # Worse on every photo it was given, but given only the easy ones.
    slow = fast.head(10).assign(method="slow", ad_100=8.0)
    table = pd.concat([fast, other, slow], ignore_index=True)
    metrics = {"ad_100": Metric("AD", higher_is_better=False)}
    found = compare(table, ["fast", "other", "slow"], metrics)["metrics"]["ad_100"]
    assert found["best"] == "fast"
    assert found["methods"]["slow"]["difference"] == 7
    assert found["methods"]["slow"]["n"] == 10
    assert set(found["ranks"]) == {"fast", "other"}
    assert found["ranked_photos"] == 40
