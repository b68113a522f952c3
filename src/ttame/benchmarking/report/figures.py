"""The report's figures, made from a result: ranks, curves, quality against cost."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ttame.benchmarking.report.markup import Html, element, join
from ttame.benchmarking.report.plots import Panel, panel_figure, rank_figure
from ttame.benchmarking.report.scores import main_columns, metric_ranks
from ttame.benchmarking.report.styles import method_styles
from ttame.benchmarking.report.svg import to_svg

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ttame.benchmarking.benchmark_result import BenchmarkResult
    from ttame.benchmarking.report.score_table import Column

# By the first part of a curve's name: what runs to the right, and what upwards.
_AXES = {
    "road": ("pixels removed and imputed", "photos that keep their class"),
    "insertion": ("pixels inserted", "probability of the class"),
    "deletion": ("pixels deleted", "probability of the class"),
    "srg": ("cells removed", "logit of the class"),
}


def rank_section(result: BenchmarkResult, found: Mapping[str, Column]) -> Html:
    """Return one critical-difference diagram per main metric."""
    compared = result.comparisons.get("metrics", {})
    styles, titles = method_styles(result.methods), _titles(result)
    parts = []
    for column in main_columns(found):
        ranks = metric_ranks(result, column.name)
        if len(ranks) < 2:
            continue
        difference = compared[column.name].get("critical_difference")
        difference = math.nan if difference is None else float(difference)
        photos = compared[column.name].get("ranked_photos")
        title = f"{column.title}, n = {photos}{_friedman(compared[column.name])}"
        figure = rank_figure(ranks, difference, titles, styles, title)
        order = ", ".join(
            f"{titles[name]} {ranks[name]:.2f}" for name in sorted(ranks, key=ranks.__getitem__)
        )
        parts.append(_figure(figure, f"rank-{column.name}", f"Mean ranks, {column.title}: {order}"))
    return element("div", *parts, class_="pairs") if parts else Html()


def _friedman(compared: Mapping[str, Any]) -> str:
    p = (compared.get("friedman") or {}).get("p")
    return "" if p is None else f", Friedman's p {'< 0.001' if p < 0.001 else f'= {p:.3f}'}"


def curve_section(result: BenchmarkResult) -> Html:
    """Return the mean curves of all methods, curves of one measure side by side."""
    by_measure: dict[str, list[Panel]] = {}
    for name, curve in result.curves.items():
        metric = result.metrics.get(name)
        panel = _curve(name, curve, name.replace("_", " ") if metric is None else metric.title)
        if panel.lines:
            by_measure.setdefault(str(curve.get("measure", name)), []).append(panel)
    styles = method_styles(result.methods)
    counts = {
        str(curve.get("measure", name)): curve.get("n", {}) for name, curve in result.curves.items()
    }
    return join(
        *(
            _figure(
                panel_figure(panels, _titles(result, counts[measure]), styles),
                f"curves-{number}",
                f"Mean curves of {', '.join(panel.title for panel in panels)}, one line per "
                "method; their areas are in the tables",
            )
            for number, (measure, panels) in enumerate(by_measure.items())
        )
    )


def cost_section(
    result: BenchmarkResult,
    found: Mapping[str, Column],
    costs: Mapping[str, float],
    label: str,
) -> Html:
    """Return one scatter per main metric of quality against cost; better is always up."""
    panels, columns = [], main_columns(found)
    for column in columns:
        lines = {
            name: ([costs[name]], [mean.mean])
            for name, mean in column.cells.items()
            if costs.get(name, 0) > 0 and math.isfinite(mean.mean)
        }
        if lines:
            end = "higher" if column.higher_is_better else "lower"
            y_label = f"{column.unit}  {end} is better".strip()
            panels.append(Panel(column.title, label, y_label, lines, column.higher_is_better))
    if not panels:
        return Html()
    styles = method_styles(result.methods)
    cells = [item for column in columns for item in column.cells.items()]
    counts = {name: max(mean.n for other, mean in cells if other == name) for name, _ in cells}
    figure = panel_figure(panels, _titles(result, counts), styles, log_x=True)
    alt = f"Quality against {label}, one point per method; the numbers are in the tables"
    return _figure(figure, "cost", alt)


def _curve(name: str, curve: Mapping[str, Any], title: str) -> Panel:
    x = [float(value) for value in curve.get("x", ())]
    lines = {
        method: (x, [math.nan if value is None else float(value) for value in means])
        for method, means in curve.get("means", {}).items()
        if len(means) == len(x) and any(value is not None for value in means)
    }
    start = name.partition("_")[0]
    x_label, y_label = _AXES.get(start, ("step", name))
    return Panel(title, x_label, y_label, lines)


def _figure(figure: Figure, name: str, alt: str, caption: str = "") -> Html:
    svg = Html(to_svg(figure, "".join(c if c.isalnum() else "-" for c in name), alt))
    return element("figure", svg, element("figcaption", caption) if caption else "", class_="plot")


def _titles(result: BenchmarkResult, counts: Mapping[str, int] | None = None) -> dict[str, str]:
    """Return how methods are called, with the number of photos of those that have fewer."""
    counts = counts or {}
    most = max(counts.values(), default=0)
    return {
        name: str(details.get("title") or name)
        + (f" (n={counts[name]})" if counts.get(name, most) < most else "")
        for name, details in result.methods.items()
    }
