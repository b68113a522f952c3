"""A benchmark as tables for the terminal: methods x main metrics, in blocks that fit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ttame.benchmarking.means import check_metrics, leaders, most_photos, without_rest
from ttame.benchmarking.plan import MARKED, PAIRS

if TYPE_CHECKING:
    from rich.console import Group
    from rich.table import Table

    from ttame.benchmarking.benchmark_result import BenchmarkResult
    from ttame.benchmarking.means import Mean
    from ttame.metrics.measure import Metric

MAIN = (
    # The area first: plain scores say little without it.
    *("mask_area", "ad_100", "ic_100", "ad_50", "ic_50", "ad_15", "ic_15"),
    *("ad_100_matched", "ic_100_matched", "ad_50_matched", "ic_50_matched"),
    *("ad_15_matched", "ic_15_matched", "adcc"),
    *("road_morf", "road_lerf", "road_combined", "insertion", "deletion", "srg"),
    *("pointing", "energy_pointing", "mass_in_mask", "iou"),
)
"""Metrics that the terminal shows of the measures that give them; of others it shows the first."""

_CELL, _TITLE, _WIDTH = 9, 22, 100


def make_tables(
    result: BenchmarkResult, metrics: Sequence[str] | None = None, width: int | None = None
) -> Group:
    """Lay out means, methods by metrics, in as many tables as the width asks for.

    The best mean of a column is bold; controls, in italics, take no part. Where a metric has fewer
    values than there are photos, their number stands in the head, where a slow method has fewer
    than the others, under the cell. A method that was not possible or failed has dashes for
    numbers, and the reason under the tables.

    Args:
        result: What to show.
        metrics: Names of metrics; None takes the main ones.
        width: Characters a line; None takes 100.

    Raises:
        UnknownNameError: A metric is unknown.
    """
    from rich.console import Group

    names = list(_main(result) if metrics is None else metrics)
    check_metrics(names, result.metrics)
    columns = max(1, ((width or _WIDTH) - _TITLE - 4) // (_CELL + 2))
    blocks = [names[start : start + columns] for start in range(0, len(names), columns)] or [[]]
    means = result.means()
    return Group(*(_block(result, block, means) for block in blocks), *_notes(result))


def best_methods(result: BenchmarkResult, metric: str) -> frozenset[str]:
    """Return who has the best mean, controls left out; nobody without a rival or a better end."""
    means = result.means()
    rivals = {
        name: means[name][metric]
        for name, details in result.methods.items()
        if not details.get("control") and metric in means[name]
    }
    return leaders(rivals, result.metrics[metric].higher_is_better)


def _main(result: BenchmarkResult) -> list[str]:
    main = [name for name in MAIN if name in result.metrics]
    shown = set(main)
    for details in result.measures.values():
        given = [name for name in details.get("metrics", ()) if name in result.metrics]
        if given and not shown & set(given):
            main.append(given[0])
    return main or list(result.metrics)


def _block(
    result: BenchmarkResult, names: Sequence[str], means: Mapping[str, Mapping[str, Mean]]
) -> Table:
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("method", max_width=_TITLE, overflow="fold")
    most = {name: most_photos(means, name) for name in names}
    for name in names:
        few = most[name] if most[name] < _photos(result, name) else None
        table.add_column(_heading(name, result.metrics[name], few), justify="right")
    best = {name: best_methods(result, name) for name in names}
    for method, details in result.methods.items():
        title = escape(str(details.get("title", method)))
        title = f"[italic]{title}[/]" if details.get("control") else title
        if details.get("status", "ok") != "ok":
            table.add_row(title, *["-"] * len(names), style="dim")
            continue
        cells = [_cell(means[method].get(name), method in best[name], most[name]) for name in names]
        table.add_row(title, *cells)
    return table


def _photos(result: BenchmarkResult, metric: str) -> int:
    """Return how many photos there are of the sets on which a metric is taken at all."""
    table = result.per_image
    used = table[table[metric].notna()]["set"].unique()
    return max(table[table["set"].isin(used)].groupby("method").size(), default=0)


def _heading(name: str, metric: Metric, few: int | None) -> str:
    words = name.replace("_matched", "\nmatched").replace("_", " ")
    if metric.higher_is_better is not None:
        words += f"\n[dim]{'higher' if metric.higher_is_better else 'lower'}[/]"
    return words if few is None else f"{words}\n[dim]n={few}[/]"


def _cell(mean: Mean | None, best: bool, most: int) -> str:
    if mean is None:
        return "-"
    value = without_rest(mean.mean)
    text = f"{value:.1f}" if abs(value) >= 10 else f"{value:.3g}"
    text = f"[bold]{text}[/]" if best else text
    return text if mean.n == most else f"{text}\n[dim]n={mean.n}[/]"


def _notes(result: BenchmarkResult) -> list[Any]:
    """Return one line per method or measure that gave nothing, and one about the photos."""
    from rich.text import Text

    lines = []
    for name, details in result.methods.items():
        title = details.get("title", name)
        if details.get("status", "ok") != "ok":
            lines.append(Text(f"{title}: {details['status']}", style="yellow"))
        for measure, reason in details.get("problems", {}).items():
            lines.append(Text(f"{title}, {measure}: no values: {reason}", style="yellow"))
    left_out = result.provenance.get("left_out") or {}
    lines += [
        Text(f"{name}: not taken: {reason}", style="dim") for name, reason in left_out.items()
    ]
    count = result.per_image.drop_duplicates(["set", "file"])["set"].value_counts()
    photos = f"{count.get('photos', 0)} photos"
    photos += f", {count[MARKED]} with marked objects" if MARKED in count else ""
    photos += f", {count[PAIRS]} pictures of two" if PAIRS in count else ""
    photos += f", {len(result.broken)} unreadable left out" if result.broken else ""
    lines.append(Text(f"{photos}; means, the best of each column bold", style="dim"))
    return lines
