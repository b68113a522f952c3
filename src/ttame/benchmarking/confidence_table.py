"""Average drop, increase in confidence and mask area as one small table for the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ttame.benchmarking.benchmark_table import best_methods
from ttame.errors import unknown_name
from ttame.metrics.faithfulness import CONFIDENCE_METRICS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.table import Table

    from ttame.benchmarking.benchmark_result import BenchmarkResult
    from ttame.benchmarking.means import Mean

_MATCHED = "_matched"
_AREA = "mask_area"


def confidence_table(
    result: BenchmarkResult, scores: Sequence[str] = ("ad", "ic"), heading: str = "method"
) -> Table:
    """Lay out methods by metrics: plain scores first, then area-matched ones.

    Each cell shows the mean over its 95 % interval. The best mean of a column is bold; controls, in
    italics, do not take part: keeping the whole image has a perfect AD.

    Args:
        result: What to show.
        scores: Some of ``"ad"``, ``"ic"`` and ``"ag"``.
        heading: What the lines are.

    Raises:
        UnknownNameError: A score is unknown.
    """
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    for score in scores:
        if score not in CONFIDENCE_METRICS:
            raise unknown_name("score", score, CONFIDENCE_METRICS)
    means = result.means()
    plain = [m for m in result.metrics if _score(m) in scores and not m.endswith(_MATCHED)]
    table = Table(caption=_caption(result), box=box.SIMPLE)
    table.add_column(heading)
    for metric in [*plain, _AREA]:
        table.add_column(_heading(metric), justify="right")
    for group, columns in (
        ("", [*plain, _AREA]),
        (", area-matched", [metric + _MATCHED for metric in plain]),
    ):
        best = {metric: best_methods(result, metric) for metric in columns}
        for method, details in result.methods.items():
            title = escape(f"{details.get('title', method)}{group}")
            cells = [_cell(means[method].get(m), m == _AREA, method in best[m]) for m in columns]
            table.add_row(f"[italic]{title}[/]" if details.get("control") else title, *cells)
        table.add_section()
    return table


def _score(metric: str) -> str:
    return metric.partition("_")[0]


def _heading(metric: str) -> str:
    kind = CONFIDENCE_METRICS.get(_score(metric))
    if kind is None:
        return "mask\narea"
    better = "higher" if kind.higher_is_better else "lower"
    return f"{_score(metric).upper()} {metric.partition('_')[2]} %\n[dim]{better}[/]"


def _cell(mean: Mean | None, is_area: bool, best: bool) -> str:
    if mean is None:
        return "-"
    centre, low, high = (f"{value:.{2 if is_area else 1}f}" for value in mean[:3])
    return f"{f'[bold]{centre}[/]' if best else centre}\n[dim]{low}-{high}[/]"


def _caption(result: BenchmarkResult) -> str:
    images = result.per_image["file"].nunique()
    broken = f", {len(result.broken)} unreadable left out" if result.broken else ""
    return f"{images} images{broken}; means over their 95 % bootstrap intervals"
