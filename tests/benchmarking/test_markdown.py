from __future__ import annotations

import pytest

from made_result import made_result
from ttame.benchmarking.markdown import markdown_table
from ttame.errors import UnknownNameError


@pytest.fixture(scope="module")
def result():
    return made_result(impossible={"gradcam": "not possible: no layer"})


def test_rows_are_methods_and_the_best_is_bold(result):
    lines = markdown_table(result, ["ad_50", "mask_area"]).splitlines()
    means = result.means()
    assert lines[:2] == ["| method | `ad_50` ↓ | `mask_area` |", "|---|---|---|"]
    titles = [line.split(" | ")[0] for line in lines[2:]]
    assert titles == ["| T-TAME", "| Grad-CAM", "| RISE", "| Random (control)"]
    assert lines[3] == "| Grad-CAM | - | - |"
    best = f"**{means['ttame']['ad_50'].mean:.1f}**"
    assert lines[2] == f"| T-TAME | {best} | {means['ttame']['mask_area'].mean:.2f} |"
    assert "**" not in "".join(lines[3:])


def test_intervals_and_fewer_photos_are_told(result):
    result.per_image.loc[
        (result.per_image["method"] == "rise") & (result.per_image["file"] > "photo-04.png"), "srg"
    ] = float("nan")
    fresh = type(result)(result.per_image, result.methods, result.metrics, seed=result.seed)
    row = markdown_table(fresh, ["srg"], intervals=True).splitlines()[4]
    mean = fresh.means()["rise"]["srg"]
    assert row == f"| RISE | {mean.mean:.2f} [{mean.low:.2f}, {mean.high:.2f}] (n=5) |"


def test_an_unknown_metric_is_refused_with_the_nearest(result):
    with pytest.raises(UnknownNameError, match="did you mean 'ad_50'"):
        markdown_table(result, ["ad_5"])


def test_a_bar_in_a_title_ends_no_cell():
    result = made_result(methods={"ttame": "T|TAME", "rise": "RISE"})
    lines = markdown_table(result, ["srg"]).splitlines()
    assert lines[2].startswith(r"| T\|TAME | ")
