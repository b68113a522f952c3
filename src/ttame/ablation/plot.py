"""An ablation as a picture: each cell's score with its interval, beside the base's."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import TYPE_CHECKING

from ttame.ablation.cell import DONE
from ttame.ablation.table import AREA, heading, shown_metrics
from ttame.benchmarking.report.markup import printable
from ttame.files import write_atomically

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ttame.ablation.result import AblationResult

_BASE, _CELL, _COLLAPSED = "#d7263d", "#2f7fd1", "#8b8f96"
_RC = {
    "font.family": ["DejaVu Sans"],
    "font.size": 8.0,
    "text.parse_math": False,  # a dollar in a name is a dollar
    "axes.titlesize": 9.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.6,
}


def make_figure(result: AblationResult) -> Figure:
    """Draw a panel per metric, plain ones above area-matched ones, a line per cell.

    The band is the base's interval; collapsed cells are grey.
    """
    import matplotlib
    from matplotlib.figure import Figure

    rows = [[*shown_metrics(result, False), AREA], shown_metrics(result, True)]
    rows = rows if result.scored else [[], []]
    columns = max(1, *map(len, rows))
    with matplotlib.rc_context(_RC):
        height = 0.8 + 0.2 * max(1, len(result.scored))
        figure = Figure(figsize=(2.2 + 1.5 * columns, 2 * height), layout="constrained")
        grid = figure.subplots(2, columns, squeeze=False, sharey=True)
        for axes_row, metrics, title in zip(grid, rows, ("", "area-matched "), strict=True):
            for axes, metric in itertools.zip_longest(axes_row, metrics):
                if metric is None:
                    axes.set_axis_off()
                else:
                    _draw(axes, result, metric, title)
        if result.scored:
            # The first cell on top; the axis is shared by all panels.
            grid[0][0].set_ylim(len(result.scored) - 0.5, -0.5)
    return figure


def write_plot(result: AblationResult, path: Path) -> Path:
    """Write the picture as PNG.

    Raises:
        StorageError: The place cannot be written.
    """
    figure = make_figure(result)
    return write_atomically(
        path, lambda file: figure.savefig(file, format="png", dpi=150, facecolor="white")
    )


def _draw(axes: Axes, result: AblationResult, metric: str, title: str) -> None:
    if result.base in result.means:
        base = result.means[result.base][metric]
        axes.axvspan(base.low, base.high, color=_BASE, alpha=0.12, linewidth=0)
        axes.axvline(base.mean, color=_BASE, linewidth=0.8)
    for place, name in enumerate(result.scored):
        mean = result.means[name][metric]
        done = result.cells[name].outcome.status == DONE
        axes.errorbar(
            mean.mean,
            place,
            xerr=[[mean.mean - mean.low], [mean.high - mean.mean]],
            fmt="o",
            markersize=3.5,
            color=_BASE if name == result.base else _CELL if done else _COLLAPSED,
            elinewidth=1.2,
            label=name,
        )
    axes.set_yticks(range(len(result.scored)), [printable(name) for name in result.scored])
    axes.set_title(f"{title}{heading(metric)}")
    axes.grid(axis="x")
