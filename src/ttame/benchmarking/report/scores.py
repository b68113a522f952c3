"""The report's tables: columns of scores with their best and tied methods, costs and ranks."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ttame.benchmarking.means import Mean, are_equal, leaders
from ttame.benchmarking.plan import OWN
from ttame.benchmarking.report.families import MAIN_METRICS, by_family, packed
from ttame.benchmarking.report.markup import Html, element, join
from ttame.benchmarking.report.score_table import Column, score_table, shown

if TYPE_CHECKING:
    from ttame.benchmarking.benchmark_result import BenchmarkResult


# The measure that T-TAME's objective is made of.
_TRAINED_FOR = "confidence"


def table_methods(result: BenchmarkResult) -> dict[str, dict[str, Any]]:
    """Return the methods for the tables: explainer and rivals, then controls.

    Returns:
        Details by name, with ``reason`` where a method was not possible or failed.
    """
    ordered = sorted(result.methods.items(), key=lambda item: bool(item[1].get("control")))
    return {
        name: {
            **details,
            "reason": _reason(str(details.get("status") or "ok")),
            "subject": name == OWN,
        }
        for name, details in ordered
    }


def columns(result: BenchmarkResult) -> dict[str, Column]:
    """Return every metric that any method has a value of, with its best and tied methods."""
    means = result.means()
    found = {}
    for name, metric in result.metrics.items():
        cells = {method: means[method][name] for method in means if name in means[method]}
        if not any(math.isfinite(mean.mean) for mean in cells.values()):
            continue
        rivals = {name: mean for name, mean in cells.items() if _rival(result.methods, name)}
        best = leaders(rivals, metric.higher_is_better)
        tied = tied_with_best(result, name) - best if best else set()
        found[name] = Column(
            name, metric.title, metric.unit, metric.higher_is_better, cells, best, frozenset(tied)
        )
    return found


def main_columns(found: Mapping[str, Column]) -> list[Column]:
    """Return the columns for figures and verdict: the main metrics, or else the first ones.

    A run of other metrics only, such as a researcher's own, is judged by as many of those
    that have a direction.
    """
    main = [found[name] for name in MAIN_METRICS if name in found]
    directed = [column for column in found.values() if column.higher_is_better is not None]
    return main or directed[: len(MAIN_METRICS)]


def tied_with_best(result: BenchmarkResult, metric: str) -> set[str]:
    """Return who is not significantly worse than the best, paired and Holm-corrected.

    A slow method may even be better on the few photos that it was given.
    """
    comparison = result.comparisons.get("metrics", {}).get(metric, {})
    sign = 1 if result.metrics[metric].higher_is_better else -1
    return {
        name
        for name, pair in comparison.get("methods", {}).items()
        # Without photos in common nothing was tested.
        if pair["p_holm"] is not None and (not pair["significant"] or sign * pair["difference"] > 0)
    }


def family_tables(result: BenchmarkResult, found: Mapping[str, Column]) -> Html:
    """Return the metrics by families, small ones side by side in one table."""
    methods = table_methods(result)
    parts: list[object] = []
    for groups in packed(_by_family(found)):
        parts += [element("h3", ", ".join(groups)), score_table(groups, methods)]
        for group in groups.values():
            parts += [_controls_ahead(group, methods), _few_ahead(result, group)]
    return join(*parts)


def rank_tables(result: BenchmarkResult, found: Mapping[str, Column]) -> Html:
    """Return the mean rank of every compared method in every metric."""
    methods = table_methods(result)
    ranked = {}
    for name, column in found.items():
        ranks = metric_ranks(result, name)
        if len(ranks) < 2:
            continue
        cells = {
            method: Mean(float(rank), math.nan, math.nan, column.cells[method].n)
            for method, rank in ranks.items()
            if method in column.cells
        }
        least = min(mean.mean for mean in cells.values())
        best = frozenset(method for method, mean in cells.items() if mean.mean == least)
        ranked[name] = Column(name, column.title, "", False, cells, best)
    return join(*(score_table(groups, methods) for groups in packed(_by_family(ranked))))


def metric_ranks(result: BenchmarkResult, metric: str) -> dict[str, float]:
    """Return the mean rank of each method that was compared in a metric, 1 the best."""
    ranks = result.comparisons.get("metrics", {}).get(metric, {}).get("ranks", {})
    return {name: float(rank) for name, rank in ranks.items() if rank is not None}


def cost_columns(result: BenchmarkResult) -> list[Column]:
    """Return passes, milliseconds and memory, where measured, as columns without intervals."""
    sources = {
        "forward_passes": ("forward passes per image", numbers(result, "forward_passes")),
        "backward_passes": ("backward passes per image", numbers(result, "backward_passes")),
        "milliseconds": ("ms per image", measured(result, "ms_per_image")),
        "peak_memory": ("peak memory for one photo, MiB", measured(result, "peak_memory_mib")),
    }
    return [_plain(name, title, values) for name, (title, values) in sources.items() if values]


def measure_columns(result: BenchmarkResult) -> list[Column]:
    """Return what each measure took on one explanation, in milliseconds, as cost columns."""
    times = result.timings.get("measures", {})
    titles = {name: str(details.get("title", name)) for name, details in result.measures.items()}
    return [
        _plain(name, titles.get(name, name), values) for name, values in times.items() if values
    ]


def _plain(name: str, title: str, values: Mapping[str, float]) -> Column:
    cells = {method: Mean(value, math.nan, math.nan, 0) for method, value in values.items()}
    return Column(name, title, "", False, cells)


def numbers(result: BenchmarkResult, key: str) -> dict[str, float]:
    """Return one number of every method that has it, such as its forward passes per image."""
    return {
        name: float(details[key])
        for name, details in result.methods.items()
        if details.get(key) is not None
    }


def measured(result: BenchmarkResult, key: str) -> dict[str, float]:
    """Return one number of every method's timings, such as its milliseconds per image."""
    times = result.timings.get("methods", {})
    found = {name: entry.get(key) for name, entry in times.items()}
    return {name: float(value) for name, value in found.items() if value is not None}


def verdict(result: BenchmarkResult, found: Mapping[str, Column]) -> Html:
    """Say in one paragraph how the explainer stands, or who leads where there is none."""
    methods = table_methods(result)
    contested = [
        column
        for column in main_columns(found)
        if column.best and sum(_rival(methods, method) for method in column.cells) > 1
    ]
    if not contested:
        return element("p", "Too few methods for a comparison.", class_="lead")
    if OWN not in methods:
        counts = {method: sum(method in column.best for column in contested) for method in methods}
        first = max(counts, key=counts.__getitem__)
        title = methods[first].get("title") or first
        return element(
            "p",
            element("b", title),
            f" has the best mean in {counts[first]} of {len(contested)} main metrics.",
            class_="lead",
        )
    own = [column for column in contested if OWN in column.cells]
    best = [column for column in own if OWN in column.best]
    tied = [column for column in own if OWN in column.tied]
    behind = [column for column in own if OWN not in column.best | column.tied]
    title = methods[OWN].get("title") or OWN
    sentence = (
        f" has the best mean in {len(best)} of {len(own)} main metrics, is not significantly worse "
        f"than the best in {len(tied)} and is behind in {len(behind)}"
    )
    lost = f": {'; '.join(column.title for column in behind)}." if behind else "."
    names = set(result.measures.get(_TRAINED_FOR, {}).get("metrics", ()))
    known = sum(column.name in names for column in own)
    ahead = sum(column.name in names for column in best)
    told = f" (T-TAME's objective is made of AD and IC: {ahead} of these {known}.)" if known else ""
    return element("p", element("b", title), sentence, lost, told, class_="lead")


def shown_otherwise(result: BenchmarkResult) -> Html:
    """Tell what sets the explainer's masks apart from the others' beside what it found."""
    own, settings = result.methods.get(OWN, {}), result.provenance.get("settings") or {}
    if own.get("status") != "ok":
        return Html()
    apart = [
        f"{name} {own[name]} instead of {settings[name]}"
        for name in ("upsampling", "detail")
        if name in own and name in settings and own[name] != settings[name]
    ]
    if not apart:
        return Html()
    return element(
        "p",
        f"{own.get('title') or OWN} shows its masks with {' and '.join(apart)}. Part of a "
        "difference may come from that: give the others the same (--upsampling, --detail) to see "
        "how much.",
        class_="faint",
    )


def _by_family(found: Mapping[str, Column]) -> dict[str, list[Column]]:
    groups = {}
    for name, members in by_family(found).items():
        # What the family's heading says need not stand in every column.
        ending = f", {name.rpartition(', ')[2]}"
        group = (found[metric] for metric in members)
        groups[name] = [
            column._replace(title=column.title.removesuffix(ending)) for column in group
        ]
    return groups


def _reason(status: str) -> str:
    return "" if status == "ok" else status


def _rival(methods: Mapping[str, Mapping[str, Any]], name: str) -> bool:
    return not methods[name].get("control")


def _controls_ahead(
    group: Sequence[Column], methods: Mapping[str, Mapping[str, Any]]
) -> Html | str:
    """Name the metrics in which a map that explains nothing beats every method."""
    told = []
    for column in group:
        if not column.best:
            continue
        sign = 1 if column.higher_is_better else -1
        target = sign * max(sign * column.cells[name].mean for name in column.best)
        ahead = [
            f"{methods[name].get('title') or name} {shown(mean.mean, column.digits)}"
            for name, mean in column.cells.items()
            if methods[name].get("control")
            and sign * (mean.mean - target) > 0
            and not are_equal(mean.mean, target)
        ]
        if ahead:
            told.append(f"{column.title} ({', '.join(ahead)})")
    if not told:
        return ""
    text = f"A control scores better than every method in {'; '.join(told)}."
    return element("p", text, class_="faint")


def _few_ahead(result: BenchmarkResult, group: Sequence[Column]) -> Html | str:
    """Name the slow methods that beat the best on the few photos that they were given."""
    told = []
    for column in group:
        sign = 1 if column.higher_is_better else -1
        pairs = result.comparisons.get("metrics", {}).get(column.name, {}).get("methods", {})
        ahead = [
            f"{result.methods[name].get('title') or name} by {shown(abs(pair['difference']), 2)} "
            f"on {pair['n']} photos"
            for name, pair in pairs.items()
            if pair["significant"] and sign * pair["difference"] > 0
        ]
        if ahead:
            told.append(f"{column.title} ({', '.join(ahead)})")
    if not told:
        return ""
    text = f"Significantly better than the best on the photos they share: {'; '.join(told)}."
    return element("p", text, class_="faint")
