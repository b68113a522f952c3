from __future__ import annotations

import math

import pandas as pd
import pytest
from rich.console import Console

from ttame.benchmarking.benchmark_result import BenchmarkResult
from ttame.benchmarking.confidence_table import confidence_table
from ttame.errors import UnknownNameError
from ttame.metrics.measure import Metric

METHODS = {
    "ttame": {"title": "T-TAME"},
    "gradcam": {"title": "Grad-CAM"},
    "all_ones": {"title": "All ones", "control": True},
}


METRICS = {
    "ad_50": Metric("AD 50 %", False, "%"),
    "ic_50": Metric("IC 50 %", True, "%"),
    "ad_50_matched": Metric("AD 50 %, area-matched", False, "%"),
    "ic_50_matched": Metric("IC 50 %, area-matched", True, "%"),
    "mask_area": Metric("mask area", None),
}


def scores(drop=(10.0, 20.0, 0.0)):
    rows = [
        {
            "file": file,
            "method": method,
            "ad_50": value,
            "ic_50": 3 * value,
            "ad_50_matched": 2 * value,
            "ic_50_matched": value,
            "mask_area": 0.25,
            "nan_map": False,
        }
        for method, value in zip(METHODS, drop, strict=True)
        for file in ("a", "b")
    ]
    return BenchmarkResult(
        pd.DataFrame(rows),
        METHODS,
        METRICS,
        broken=(("c", "empty"),),
    )


def render(table):
    console = Console(width=100, force_terminal=True, color_system="truecolor")
    with console.capture() as capture:
        console.print(table)
    return capture.get()


def test_best_is_bold_without_the_controls():
    text = render(confidence_table(scores()))
    assert "\x1b[1m10.0\x1b[0m" in text  # lower AD
    assert "\x1b[1m60.0\x1b[0m" in text  # higher IC
    assert "\x1b[1m0.0\x1b[0m" not in text
    assert text.index("T-TAME") < text.index("Grad-CAM") < text.index("T-TAME, area-matched")
    assert "2 images, 1 unreadable left out" in text
    assert "10.0-10.0" in text
    assert "0.25" in text


def test_scores_can_be_chosen():
    text = render(confidence_table(scores(), scores=["ad"]))
    assert "AD 50 %" in text
    assert "IC 50 %" not in text
    with pytest.raises(UnknownNameError, match="ad"):
        confidence_table(scores(), scores=["add"])


def test_nan_values_are_left_out_and_counted():
    both = scores((math.nan, 20.0, 0.0))
    assert "ad_50" not in both.means()["ttame"]
    assert both.summary().loc[("gradcam", "ad_50"), "n"] == 2
    row = next(line for line in render(confidence_table(both)).splitlines() if "T-TAME" in line)
    assert " - " in row
    assert "nan" not in row
    one = scores((math.nan, 20.0, 0.0))
    one.per_image.loc[0, "ad_50"] = 30.0
    assert one.means()["ttame"]["ad_50"] == (30.0, 30.0, 30.0, 1)
    with pytest.raises(UnknownNameError, match="ttame"):
        both.values("tame")
