"""A benchmark as a Markdown table, for a paper's repository or a page of documentation."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from ttame.benchmarking.benchmark_table import best_methods
from ttame.benchmarking.means import check_metrics, most_photos

if TYPE_CHECKING:
    from ttame.benchmarking.benchmark_result import BenchmarkResult
    from ttame.benchmarking.means import Mean


def markdown_table(
    result: BenchmarkResult, metrics: Sequence[str], *, intervals: bool = False
) -> str:
    """Lay out means, a row per method and a column per metric.

    The best mean of a column is bold; controls take no part. A column that has fewer photos than
    others tells their number in its head, a mean over still fewer tells its own. A method that was
    not possible or failed has a row of dashes; one that worked but has none of these values has no
    row.

    Args:
        result: What to show.
        metrics: Names of metrics, in the order of the columns.
        intervals: Add the 95 % bootstrap interval to each mean.

    Returns:
        Lines without a line break at the end.

    Raises:
        UnknownNameError: A metric is unknown.

    Example:
        >>> import pandas as pd
        >>> from ttame.benchmarking.benchmark_result import BenchmarkResult
        >>> from ttame.metrics.measure import Metric
        >>> values = pd.DataFrame({"method": ["a", "b"], "ad_50": [20.0, 30.0]})
        >>> methods = {"a": {"title": "A"}, "b": {"title": "B"}}
        >>> result = BenchmarkResult(values, methods, {"ad_50": Metric("AD 50 %", False, "%")})
        >>> print(markdown_table(result, ["ad_50"]))
        | method | `ad_50` ↓ |
        |---|---|
        | A | **20.0** |
        | B | 30.0 |
    """
    check_metrics(metrics, result.metrics)
    means = result.means()
    most = {name: most_photos(means, name) for name in metrics}
    best = {name: best_methods(result, name) for name in metrics}
    heads = [
        f"`{name}` {result.metrics[name].arrow}".rstrip()
        + (f" (n={most[name]})" if most[name] < max(most.values()) else "")
        for name in metrics
    ]
    lines = [markdown_row(["method", *heads]), "|---" * (1 + len(heads)) + "|"]
    for method, details in result.methods.items():
        impossible = details.get("status", "ok") != "ok"
        if not impossible and not any(name in means[method] for name in metrics):
            continue
        cells = [
            _cell(
                means[method].get(name),
                digits=1 if result.metrics[name].unit == "%" else 2,
                best=method in best[name],
                most=most[name],
                intervals=intervals,
            )
            for name in metrics
        ]
        mark = " (control)" if details.get("control") else ""
        lines.append(markdown_row([f"{details.get('title', method)}{mark}", *cells]))
    return "\n".join(lines)


def markdown_row(cells: Iterable[str]) -> str:
    r"""Return one line of a table; a bar in a cell does not end it.

    Example:
        >>> print(markdown_row(["one | two", "3"]))
        | one \| two | 3 |
    """
    escaped = (cell.replace("|", r"\|") for cell in cells)
    return f"| {' | '.join(escaped)} |"


def _cell(mean: Mean | None, *, digits: int, best: bool, most: int, intervals: bool) -> str:
    if mean is None:
        return "-"
    # Rounded first: "-0.0" would be read as something.
    middle, low, high = (f"{round(v, digits) + 0.0:.{digits}f}" for v in mean[:3])
    text = f"**{middle}**" if best else middle
    text += f" [{low}, {high}]" if intervals else ""
    return text if mean.n == most else f"{text} (n={mean.n})"
