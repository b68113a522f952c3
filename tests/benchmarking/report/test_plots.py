from __future__ import annotations

import math
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ttame.benchmarking.report.plots import Panel, panel_figure, rank_figure, tied_groups
from ttame.benchmarking.report.styles import method_styles
from ttame.benchmarking.report.svg import to_svg

TITLES = {"ttame": "T-TAME", "gradcam": "Grad-CAM", "random": "Random"}
STYLES = method_styles({"ttame": {}, "gradcam": {}, "random": {"control": True}})

# Demšar, JMLR 2006, table 6: mean ranks of four variants of C4.5 on 14 data sets.
C45 = {"plain": 3.143, "m": 2.0, "cf": 2.893, "m+cf": 1.964}


def texts(figure):
    return [item.get_text() for item in figure.findobj(lambda found: hasattr(found, "get_text"))]


def test_groups_of_the_paper():
    # Critical difference 1.12 at 10 %: two groups, pure C4.5 is worse than the two best.
    assert tied_groups(C45, 1.12) == [("m+cf", "m", "cf"), ("cf", "plain")]
    # 1.25 at 5 %: no difference is found.
    assert tied_groups(C45, 1.25) == [("m+cf", "m", "cf", "plain")]
    assert tied_groups(C45, 0.01) == []


def test_groups_survive_ties_nan_and_single_methods():
    assert tied_groups({"a": 1.5, "b": 1.5}, 0.0) == [("a", "b")]
    assert tied_groups({"a": 1.0, "b": math.nan, "c": 1.1}, 0.5) == [("a", "c")]
    assert tied_groups({"a": 1.0}, 5.0) == []
    assert tied_groups({}, 1.0) == []
    # 0.1 + 0.2 > 0.3 in floats: rounding splits no tie.
    assert tied_groups({"a": 0.1, "b": 0.1 + 0.2}, 0.2) == [("a", "b")]


@given(
    st.lists(st.integers(0, 20), min_size=2, max_size=8),
    st.integers(0, 6),
)
def test_groups_hold_exactly_the_close_pairs(ranks, difference):
    named = {str(place): float(rank) for place, rank in enumerate(ranks)}
    groups = tied_groups(named, float(difference))
    joined = {frozenset((a, b)) for group in groups for a in group for b in group if a != b}
    close = {
        frozenset((a, b))
        for a in named
        for b in named
        if a != b and abs(named[a] - named[b]) <= difference
    }
    assert joined == close
    assert not any(set(a) <= set(b) for a in groups for b in groups if a is not b)


def test_rank_figure_shows_every_method_and_its_groups():
    ranks = {"ttame": 1.25, "gradcam": 1.75, "random": 3.0}
    figure = rank_figure(ranks, 0.6, TITLES, STYLES, "ROAD")
    shown = " ".join(texts(figure))
    for word in ("T-TAME", "1.25", "Grad-CAM", "Random", "3.00", "ROAD", "mean rank"):
        assert word in shown
    assert "critical difference 0.6" in shown
    bars = [line for line in figure.axes[0].lines if str(line.get_gid()).startswith("group")]
    assert len(bars) == 1
    low, high = bars[0].get_xdata()
    assert low <= 1.25 <= 1.75 <= high < 3
    colours = {line.get_color() for line in figure.axes[0].lines}
    assert {style.colour for style in STYLES.values()} <= colours


def test_rank_figure_without_a_critical_difference_has_no_groups():
    figure = rank_figure({"ttame": 1.0, "gradcam": 2.0}, math.nan, TITLES, STYLES)
    assert not any(str(line.get_gid()).startswith("group") for line in figure.axes[0].lines)
    assert "critical" not in " ".join(texts(figure))


def test_panels_share_a_legend_and_turn_lower_is_better():
    x = [0.1, 0.5, 0.9]
    panels = [
        Panel("MoRF", "removed", "kept", {"ttame": (x, [1.0, 0.5, 0.1])}, False),
        Panel("LeRF", "removed", "kept", {"ttame": (x, [1.0, 0.9, 0.5]), "random": (x, x)}),
    ]
    figure = panel_figure(panels, TITLES, STYLES)
    morf, lerf = figure.axes
    assert (morf.get_title("left"), lerf.get_title("left")) == ("MoRF", "LeRF")
    assert (morf.get_xlabel(), morf.get_ylabel()) == ("removed", "kept")
    assert morf.yaxis_inverted()
    assert not lerf.yaxis_inverted()
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == ["T-TAME", "Random"]
    assert morf.lines[0].get_color() == lerf.lines[0].get_color() == STYLES["ttame"].colour
    np.testing.assert_array_equal(morf.lines[0].get_ydata(), [1.0, 0.5, 0.1])


def test_costs_are_logarithmic_and_leave_out_what_has_no_place():
    lines = {"ttame": ([10.0], [1.0]), "gradcam": ([0.0], [2.0]), "random": ([5.0], [math.nan])}
    figure = panel_figure([Panel("AD", "ms", "%", lines, False)], TITLES, STYLES, log_x=True)
    axes = figure.axes[0]
    assert axes.get_xscale() == "log"
    assert [line.get_label() for line in axes.lines] == ["ttame"]
    assert axes.lines[0].get_marker() == STYLES["ttame"].marker


def test_styles_tell_forty_methods_apart():
    styles = method_styles({str(place): {"control": place >= 40} for place in range(44)})
    looks = {(style.colour, style.dash) for style in list(styles.values())[:40]}
    points = {(style.colour, style.marker) for style in list(styles.values())[:40]}
    assert len(looks) == len(points) == 40
    assert styles["0"].order > styles["1"].order > styles["40"].order


def test_svg_is_well_formed_reproducible_and_themed():
    def make():
        figure = rank_figure(
            {"ttame": 1.0, "gradcam": 2.0}, 0.5, {**TITLES, "gradcam": "<b>$x & y"}, STYLES
        )
        return to_svg(figure, "one", 'ranks "of" <all>')

    svg = make()
    assert svg == make()
    root = ElementTree.fromstring(svg)
    assert root.get("aria-label") == 'ranks "of" <all>'
    assert "currentColor" in svg
    assert "<b>" not in svg
    assert "#0102" not in svg
    ids = [item.get("id") for item in root.iter() if item.get("id")]
    assert ids
    assert all(name.startswith("one-") for name in ids)
    assert any("<b>$x & y" in (item.text or "") for item in root.iter())


def test_rc_settings_of_the_user_stay():
    matplotlib = pytest.importorskip("matplotlib")
    before = dict(matplotlib.rcParams)
    to_svg(rank_figure({"ttame": 1.0, "gradcam": 2.0}, 1.0, TITLES, STYLES), "a", "a")
    assert dict(matplotlib.rcParams) == before
