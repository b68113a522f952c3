from __future__ import annotations

from dataclasses import replace

import pandas as pd
import pytest
from rich.console import Console

from ttame.benchmarking.benchmark_result import BenchmarkResult
from ttame.errors import UnknownNameError
from ttame.metrics.measure import Metric

METRICS = {
    "ad_50": Metric("AD 50 %", False, "%"),
    "ic_50": Metric("IC 50 %", True, "%"),
    "mask_area": Metric("mask area", None),
    "own": Metric("own", True),
    "own_more": Metric("own, more", True),
}


def made(short=(), **values):
    """A result on two photos; the methods in ``short`` have the first one only."""
    rows = [
        {
            **{"set": "photos", "file": file, "half": "choosing", "class_index": 0},
            **{"class_name": "0", "probability": 0.5, "method": method, "nan_map": False},
            **{"ad_50": number, "ic_50": 3 * number, "mask_area": 0.25},
            **{"own": number if file == "a" else float("nan"), "own_more": 77.7},
        }
        for method, number in values.items()
        for file in ("a", "b")
        if not (method in short and file == "b")
    ]
    methods = {
        "ttame": {"title": "T-TAME", "status": "ok"},
        "rise": {"title": "RISE", "status": "ok", "problems": {"road": "too few pixels"}},
        "rollout": {"title": "Rollout", "status": "not possible: no attention"},
        "ones": {"title": "All ones", "status": "ok", "control": True},
    }
    measures = {"own": {"metrics": ["own", "own_more"]}, "confidence": {"metrics": ["ad_50"]}}
    return BenchmarkResult(pd.DataFrame(rows), methods, METRICS, measures, broken=(("c", "bad"),))


def render(table, width=120):
    console = Console(width=width, force_terminal=True, color_system="truecolor")
    with console.capture() as capture:
        console.print(table)
    return capture.get()


def test_best_is_bold_and_the_impossible_stays():
    text = render(made(ttame=10.0, rise=20.0, ones=0.0).table())
    assert "\x1b[1m10.0\x1b[0m" in text  # lower AD
    assert "\x1b[1m60.0\x1b[0m" in text  # higher IC
    assert "\x1b[1m0\x1b[0m" not in text  # a control is no rival
    assert "\x1b[3mAll ones\x1b[0m" in text
    assert "Rollout: not possible: no attention" in text
    assert "RISE, road: no values: too few pixels" in text
    assert "2 photos, 1 unreadable left out" in text
    assert "own" in text
    assert "77.7" not in text  # of a measure without main metrics only the first is shown


def test_a_method_with_fewer_photos_is_never_the_best():
    few = made(short=["rise"], ttame=10.0, other=11.0, rise=1.0)
    text = render(few.table())
    assert "\x1b[1m10.0\x1b[0m" in text
    assert "\x1b[1m1.0\x1b[0m" not in text
    assert "n=1" in text


def test_blocks_fit_the_width():
    text = render(made(ttame=10.0, rise=20.0, ones=0.0).table(width=40), width=40)
    assert text.count("T-TAME") == 4
    assert "…" not in text


def test_metrics_can_be_chosen():
    result = made(ttame=10.0, rise=20.0, ones=0.0)
    text = render(result.table(["own_more"]))
    assert "77.7" in text
    assert "ad 50" not in text
    with pytest.raises(UnknownNameError, match="ad_50"):
        result.table(["ad50"])


def test_a_slow_measure_tells_its_number_of_photos_in_the_head():
    text = render(made(ttame=10.0, rise=20.0).table())
    head = text[: text.index("T-TAME")]
    assert head.count("n=1") == 1  # of own; the others have both photos
    assert "n=" not in text[text.index("T-TAME") :]


def test_what_is_left_of_rounding_is_zero():
    text = render(made(ttame=-8.9e-16, rise=20.0).table(["ad_50"]))
    assert "e-16" not in text
    assert "-0" not in text


def test_what_a_run_of_everything_could_not_take_is_told():
    result = made(ttame=10.0)
    told = replace(result, provenance={"left_out": {"transfer": "needs a judge"}})
    assert "transfer: not taken: needs a judge" in render(told.table())
