"""The benchmark's figures: ranks with their critical difference, curves, quality against cost."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from ttame.benchmarking.report.markup import printable
from ttame.benchmarking.report.svg import FAINT, INK, LINE, theme

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ttame.benchmarking.report.styles import Style

_COLUMNS = 3
_HEAD = 0.3  # inches of a title
_SLACK = 1e-9  # ranks are means of halves: rounding must not split a tie


class Panel(NamedTuple):
    """One diagram among several that share methods and legend.

    Attributes:
        title: Above it.
        x_label: What runs to the right, with its unit.
        y_label: What runs upwards, with its unit.
        lines: x and y values by method, S of each; a single one is drawn as a point.
        higher_is_better: False turns the y axis round, so that better is always up.
    """

    title: str
    x_label: str
    y_label: str
    lines: Mapping[str, tuple[Sequence[float], Sequence[float]]]
    higher_is_better: bool | None = None


def tied_groups(ranks: Mapping[str, float], difference: float) -> list[tuple[str, ...]]:
    """Find the largest groups of methods whose mean ranks lie within the critical difference.

    Demšar, "Statistical comparisons of classifiers over multiple data sets", JMLR 2006.

    Args:
        ranks: Mean rank by method, 1 the best; NaN leaves a method out.
        difference: The critical difference of two mean ranks.

    Returns:
        Groups of at least two, best first; no group lies within another.

    Example:
        >>> tied_groups({"a": 1.0, "b": 1.5, "c": 2.2, "d": 4.0}, 0.8)
        [('a', 'b'), ('b', 'c')]
    """
    names = _by_rank(ranks)
    groups: list[tuple[str, ...]] = []
    reached = 0
    for start, first in enumerate(names):
        end = start
        while end < len(names) and ranks[names[end]] - ranks[first] <= difference + _SLACK:
            end += 1
        if end - start > 1 and end > reached:
            groups.append(tuple(names[start:end]))
        reached = max(reached, end)
    return groups


def rank_figure(
    ranks: Mapping[str, float],
    difference: float,
    titles: Mapping[str, str],
    styles: Mapping[str, Style],
    title: str = "",
) -> Figure:
    """Draw mean ranks on a line and join those that do not differ; see :func:`tied_groups`.

    Args:
        ranks: Mean rank by method, 1 the best; NaN leaves a method out.
        difference: The critical difference; NaN draws no groups.
        titles: How the methods are called.
        styles: How they are drawn.
        title: Above the diagram.

    Returns:
        The figure; the best half of the methods stands on the left, the others on the right.
    """
    from matplotlib.figure import Figure

    names = _by_rank(ranks)
    groups = [] if math.isnan(difference) else tied_groups(ranks, difference)
    half = (len(names) + 1) // 2
    low, high = 1.0, max(2.0, float(len(names)))
    # In rows of one line of text: groups directly under the axis, the names under the groups.
    top = 0.9 + 0.4 * len(groups)
    depth = top + half
    with theme():
        height = 0.2 * (depth + 2.2)
        figure = Figure(figsize=(6.6, height + _HEAD))
        axes = figure.add_axes((0.33, 0, 0.34, height / (height + _HEAD)))
        axes.set(xlim=(low, high), ylim=(depth, -2.2))
        axes.axis("off")
        axes.plot([low, high], [0, 0], color=INK, linewidth=1, clip_on=False)
        step = max(1, math.ceil((high - low) / 10))
        for tick in range(1, int(high) + 1, step):
            axes.plot([tick, tick], [0, -0.35], color=INK, linewidth=1, clip_on=False)
            axes.text(tick, -0.5, str(tick), ha="center", va="bottom", fontsize=8)
        axes.text(low, -1.65, "mean rank (1 = best)", ha="left", va="bottom", fontsize=8)
        for place, name in enumerate(names):
            left = place < half
            # The names of the right half stand from the worst, at the top, to the middle.
            row = top + 0.5 + (place if left else len(names) - 1 - place)
            end = low - 0.04 * (high - low) if left else high + 0.04 * (high - low)
            style = styles[name]
            axes.plot(
                [ranks[name], ranks[name], end],
                [0, row, row],
                color=style.colour,
                linewidth=min(style.width, 1.8),
                clip_on=False,
            )
            rank = f"{ranks[name]:.2f}"
            text = (
                f"{printable(titles[name])}  {rank} "
                if left
                else f" {rank}  {printable(titles[name])}"
            )
            axes.text(
                end,
                row,
                text,
                ha="right" if left else "left",
                va="center",
                weight="bold" if style.order >= 4 else "normal",
            )
        for number, group in enumerate(groups):
            row = 0.55 + 0.4 * number
            reach = 0.006 * (high - low)
            axes.plot(
                [ranks[group[0]] - reach, ranks[group[-1]] + reach],
                [row, row],
                color=INK,
                linewidth=3,
                solid_capstyle="butt",
                clip_on=False,
                gid=f"group-{number}",
            )
        known = "" if math.isnan(difference) else f"critical difference {difference:.2g}"
        figure.text(0, 0.995, printable(title), ha="left", va="top", fontsize=10)
        figure.text(1, 0.985, known, ha="right", va="top", fontsize=8, color=FAINT)
    return figure


def panel_figure(
    panels: Sequence[Panel],
    titles: Mapping[str, str],
    styles: Mapping[str, Style],
    log_x: bool = False,
) -> Figure:
    """Draw diagrams side by side under one legend.

    Args:
        panels: At least one.
        titles: How the methods are called.
        styles: How they are drawn.
        log_x: Logarithmic x axes, for costs; values that are not positive are left out.

    Returns:
        The figure, up to three diagrams in a row.
    """
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    columns = min(len(panels), _COLUMNS)
    rows = math.ceil(len(panels) / columns)
    shown = [name for name in styles if any(name in panel.lines for panel in panels)]
    legend_columns = 2 * columns if columns > 1 else 2
    legend = 0.19 * math.ceil(len(shown) / legend_columns) + 0.15
    with theme():
        size = (max(2, columns) * 3.1, rows * 2.6 + legend)
        figure = Figure(figsize=size, layout=ConstrainedLayoutEngine(hspace=0.06, wspace=0.04))
        grid = figure.subplots(rows, columns, squeeze=False).ravel()
        for axes, panel in zip(grid, panels, strict=False):
            _draw(axes, panel, styles, log_x)
        for axes in grid[len(panels) :]:
            axes.set_visible(False)
        handles = [_handle(styles[name], titles[name], panels, name) for name in shown]
        figure.legend(
            handles=handles, loc="outside lower left", ncols=legend_columns, handlelength=2.6
        )
    return figure


def _by_rank(ranks: Mapping[str, float]) -> list[str]:
    return sorted((name for name in ranks if not math.isnan(ranks[name])), key=ranks.__getitem__)


def _draw(axes: Axes, panel: Panel, styles: Mapping[str, Style], log_x: bool) -> None:
    if log_x:
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter("{x:g}")  # plain numbers: powers would need mathtext
        axes.xaxis.set_minor_formatter("")
    for name, (x, y) in panel.lines.items():
        pairs = [
            pair
            for pair in zip(x, y, strict=True)
            if all(map(math.isfinite, pair)) and (pair[0] > 0 or not log_x)
        ]
        if not pairs:
            continue
        style = styles[name]
        point = len(pairs) == 1
        axes.plot(
            *zip(*pairs, strict=True),
            color=style.colour,
            linestyle="none" if point else style.dash,
            linewidth=style.width,
            marker=style.marker if point else "",
            markersize=5 + style.width,
            zorder=style.order,
            label=name,
        )
    axes.set_title(printable(panel.title))
    axes.set_xlabel(printable(panel.x_label))
    axes.set_ylabel(printable(panel.y_label))
    axes.grid(color=LINE, which="major")
    if panel.higher_is_better is False:
        axes.invert_yaxis()


def _handle(style: Style, title: str, panels: Sequence[Panel], name: str) -> object:
    from matplotlib.lines import Line2D

    points = all(len(panel.lines[name][0]) == 1 for panel in panels if name in panel.lines)
    return Line2D(
        [],
        [],
        color=style.colour,
        linestyle="none" if points else style.dash,
        linewidth=style.width,
        marker=style.marker if points else "",
        label=printable(title),
    )
