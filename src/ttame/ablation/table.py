"""An ablation as a table, for the terminal and for a page."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ttame.ablation.cell import COLLAPSED, DONE, FAILED
from ttame.benchmarking.confidence_table import confidence_table
from ttame.benchmarking.markdown import markdown_row
from ttame.metrics.faithfulness import CONFIDENCE_METRICS
from ttame.metrics.measure import ARROWS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Group

    from ttame.ablation.result import AblationResult

AREA, MATCHED = "mask_area", "_matched"
_SCORES = ("ad", "ic")


def shown_metrics(result: AblationResult, matched: bool) -> list[str]:
    """Return the AD and IC metrics of a result, largest share first, plain or area-matched."""
    names = [] if result.scores is None else list(result.scores.metrics)
    return [
        name
        for name in names
        if name.partition("_")[0] in _SCORES and name.endswith(MATCHED) is matched
    ]


def heading(metric: str) -> str:
    """Name a metric and its better end.

    Example:
        >>> heading("ad_50_matched"), heading("mask_area")
        ('AD 50 ↓', 'mask area')
    """
    score, _, share = metric.removesuffix(MATCHED).partition("_")
    if score not in CONFIDENCE_METRICS:
        return metric.replace("_", " ")
    return f"{score.upper()} {share} {ARROWS[CONFIDENCE_METRICS[score].higher_is_better]}"


def make_table(result: AblationResult) -> Group:
    """Lay out cells by metrics, as `ttame evaluate` does methods; the notes stand below.

    The best mean of a column is bold; collapsed cells, in italics, take no part.
    """
    from rich.console import Group
    from rich.text import Text

    parts = [] if result.scores is None else [confidence_table(result.scores, heading="cell")]
    notes = [Text(line, style="yellow") for line in _notes(result)]
    return Group(*parts, Text(f"base: {result.base}", style="dim"), *notes)


def markdown(result: AblationResult) -> str:
    """Return tables of scores with intervals, and below each its difference from the base."""
    lines = [
        "# Ablation",
        "",
        f"Means with 95 % bootstrap intervals{_photos(result)}. Under them the mean difference "
        f"from `{result.base}`, photo by photo; bold where its interval does not hold 0.",
    ]
    for title, matched in (("plain", False), ("area-matched", True)):
        metrics = shown_metrics(result, matched)
        if metrics:
            lines += ["", *_block(result, title, metrics if matched else [*metrics, AREA])]
    notes = [f"- {line}" for line in _notes(result)]
    return "\n".join([*lines, *(["", *notes] if notes else []), ""])


def _block(result: AblationResult, title: str, metrics: Sequence[str]) -> list[str]:
    rows = [[title, *map(heading, metrics)], ["---"] * (1 + len(metrics))]
    for name in result.scored:
        collapsed = result.cells[name].outcome.status != DONE
        label = f"{name} ({COLLAPSED})" if collapsed else name
        rows.append([label, *(_cell(result, name, metric) for metric in metrics)])
    return [markdown_row(row) for row in rows]


def _cell(result: AblationResult, name: str, metric: str) -> str:
    digits = 3 if metric == AREA else 1
    mean = result.means[name][metric]
    if not mean.n:
        return "-"
    text = f"{mean.mean:.{digits}f} [{mean.low:.{digits}f}, {mean.high:.{digits}f}]"
    difference = result.differences.get(name, {}).get(metric)
    if difference is None:
        return text
    change = f"{difference.mean:+.{digits}f}"
    # Not so where both ends are 0: a cell that is the same as the base.
    certain = difference.low > 0 or difference.high < 0
    return f"{text}<br>{f'**{change}**' if certain else change}"


def _notes(result: AblationResult) -> list[str]:
    return [
        f"{name}: {cell.outcome.status}: {cell.outcome.reason}"
        for name, cell in result.cells.items()
        if cell.outcome.status in (COLLAPSED, FAILED)
    ]


def _photos(result: AblationResult) -> str:
    if result.scores is None:
        return ""
    return f" over {result.scores.per_image['file'].nunique()} photos"
