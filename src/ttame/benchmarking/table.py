"""An evaluation as a table for the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ttame.benchmarking.means import leaders
from ttame.errors import unknown_name
from ttame.metrics.faithfulness import CONFIDENCE_METRICS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rich.table import Table

    from ttame.benchmarking.means import Mean
    from ttame.benchmarking.results import Evaluation

_MATCHED = "_matched"
_AREA = "mask_area"


def make_table(
    evaluation: Evaluation, scores: Sequence[str] = ("ad", "ic"), heading: str = "method"
) -> Table:
    """Lay out methods by metrics: plain scores first, then area-matched ones.

    Each cell shows the mean over its 95 % interval. The best mean of a column is bold; controls, in
    italics, do not take part: keeping the whole image has a perfect AD.

    Args:
        evaluation: What to show.
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
    means = evaluation.means()
    plain = [m for m in evaluation.metrics if _score(m) in scores and not m.endswith(_MATCHED)]
    rivals = [m for m, details in evaluation.methods.items() if not details.get("control")]
    table = Table(caption=_caption(evaluation), box=box.SIMPLE)
    table.add_column(heading)
    for metric in [*plain, _AREA]:
        table.add_column(_heading(metric), justify="right")
    for group, columns in (
        ("", [*plain, _AREA]),
        (", area-matched", [metric + _MATCHED for metric in plain]),
    ):
        best = {metric: best_methods(means, rivals, metric) for metric in columns}
        for method, details in evaluation.methods.items():
            title = escape(f"{details.get('title', method)}{group}")
            cells = [_cell(means[method][m], m == _AREA, method in best[m]) for m in columns]
            table.add_row(f"[italic]{title}[/]" if details.get("control") else title, *cells)
        table.add_section()
    return table


def best_methods(
    means: Mapping[str, Mapping[str, Mean]], rivals: Sequence[str], metric: str
) -> frozenset[str]:
    """Return who has the best mean; nobody where there is no rival or neither end is better."""
    kind = CONFIDENCE_METRICS.get(_score(metric))
    rivalling = {method: means[method][metric] for method in rivals}
    return leaders(rivalling, None if kind is None else kind.higher_is_better)


def _score(metric: str) -> str:
    return metric.partition("_")[0]


def _heading(metric: str) -> str:
    kind = CONFIDENCE_METRICS.get(_score(metric))
    if kind is None:
        return "mask\narea"
    better = "higher" if kind.higher_is_better else "lower"
    return f"{_score(metric).upper()} {metric.partition('_')[2]} %\n[dim]{better}[/]"


def _cell(mean: Mean, is_area: bool, best: bool) -> str:
    centre, low, high = (f"{value:.{2 if is_area else 1}f}" for value in mean[:3])
    return f"{f'[bold]{centre}[/]' if best else centre}\n[dim]{low}-{high}[/]"


def _caption(evaluation: Evaluation) -> str:
    images = evaluation.per_image["file"].nunique()
    broken = f", {len(evaluation.broken)} unreadable left out" if evaluation.broken else ""
    return f"{images} images{broken}; means over their 95 % bootstrap intervals"
