from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from ttame.ablation.cell import Outcome
from ttame.ablation.plot import make_figure
from ttame.ablation.result import AblationResult, CellResult
from ttame.ablation.table import make_table, markdown
from ttame.benchmarking.benchmark_result import BenchmarkResult
from ttame.metrics.measure import Metric

METRICS = ("ad_100", "ic_100", "ad_100_matched", "ic_100_matched", "mask_area")
KINDS = {name: Metric(name, name[:2] == "ic" if name != "mask_area" else None) for name in METRICS}


@pytest.fixture
def result() -> AblationResult:
    """Three cells on four photos, one of them collapsed, and a fourth that failed."""
    base = np.random.default_rng(0).uniform(10, 90, (len(METRICS), 4))
    changes = {"base": 0.0, "worse $x": 200.0, "flat": np.array([5.0, -5.0, 5.0, -5.0])}
    frames = [
        pd.DataFrame(
            {
                "file": [f"{place}.jpg" for place in range(4)],
                "method": name,
                "nan_map": False,
                **dict(zip(METRICS, base + change, strict=True)),
            }
        )
        for name, change in changes.items()
    ]
    cells = {
        "base": Outcome("done"),
        "worse $x": Outcome("done"),
        "flat": Outcome("collapsed", "the masks keep everything"),
        "broken": Outcome("failed", "no memory"),
    }
    details = {name: {"title": name, "control": name == "flat"} for name in list(cells)[:3]}
    return AblationResult(
        "base",
        {name: CellResult(outcome, {}, {}) for name, outcome in cells.items()},
        BenchmarkResult(pd.concat(frames, ignore_index=True), details, KINDS),
    )


def test_every_cell_stands_in_every_panel_beside_the_base(result, tmp_path):
    figure = make_figure(result)
    panels = [axes for axes in figure.axes if axes.axison]
    titles = ["AD 100 ↓", "IC 100 ↑", "mask area"]
    titles += ["area-matched AD 100 ↓", "area-matched IC 100 ↑"]
    assert [axes.get_title(loc="center") for axes in panels] == titles
    shown = ("ad_100", "ic_100", "mask_area", "ad_100_matched", "ic_100_matched")
    for axes, metric in zip(panels, shown, strict=True):
        found = {bars.get_label(): bars for bars in axes.containers}
        assert list(found) == ["base", "worse $x", "flat"]
        for place, (name, bars) in enumerate(found.items()):
            mean = result.means[name][metric]
            line, _, (interval,) = bars.lines
            assert (line.get_xdata()[0], line.get_ydata()[0]) == (mean.mean, place)
            np.testing.assert_allclose(
                interval.get_segments()[0], [[mean.low, place], [mean.high, place]]
            )
        colours = [found[name].lines[0].get_color() for name in found]
        assert len(set(colours)) == 3
    figure.savefig(tmp_path / "plot.png")  # a dollar in a name is no formula


def test_markdown_marks_differences_that_are_certain(result):
    lines = markdown(result).splitlines()
    (heading,) = (line for line in lines if line.startswith("| plain"))
    assert heading == "| plain | AD 100 ↓ | IC 100 ↑ | mask area |"
    rows = [line for line in lines if line.startswith("| ") and "[" in line]
    assert [row.split(" | ")[0] for row in rows] == [
        *("| base", "| worse $x", "| flat (collapsed)"),
        *("| base", "| worse $x", "| flat (collapsed)"),
    ]
    assert "<br>" not in rows[0]
    assert rows[1].count("<br>**+") == 3
    assert "<br>**" not in rows[2]
    assert rows[2].count("<br>") == 3
    assert "- flat: collapsed: the masks keep everything" in lines
    assert "- broken: failed: no memory" in lines


def test_the_terminal_tells_what_failed(result):
    from rich.console import Console

    console = Console(width=200)
    with console.capture() as capture:
        console.print(make_table(result))
    text = capture.get()
    for part in ("cell", "worse $x", "base: base", "broken: failed: no memory", "4 images"):
        assert part in text


def test_without_any_score_there_is_still_a_picture_and_a_page():
    result = AblationResult("base", {"base": CellResult(Outcome("failed", "no"), {}, {})}, None)
    assert not any(axes.axison for axes in make_figure(result).axes)
    assert "- base: failed: no" in markdown(result)
    assert len(result.rows()) == 1
