"""Methods by metrics as an HTML table: means over intervals, best and tied ones marked."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING, Any, NamedTuple

from ttame.benchmarking.markup import Html, element, join

if TYPE_CHECKING:
    from ttame.benchmarking.means import Mean


class Column(NamedTuple):
    """A metric with every method's value.

    Attributes:
        name: Of the metric, as in the results file.
        title: Its heading.
        unit: For example ``"%"``.
        higher_is_better: None where neither end is better.
        cells: Mean, interval and number of images by method; a method may be absent.
        best: Who has the best mean.
        tied: Whose paired difference from the best is not significant.
    """

    name: str
    title: str
    unit: str
    higher_is_better: bool | None
    cells: Mapping[str, Mean]
    best: AbstractSet[str] = frozenset()
    tied: AbstractSet[str] = frozenset()

    @property
    def images(self) -> int:
        """Most images that a method has a value for."""
        return max((mean.n for mean in self.cells.values()), default=0)

    @property
    def arrow(self) -> str:
        """Which end is better."""
        return {True: " ↑", False: " ↓", None: ""}[self.higher_is_better]


def score_table(
    columns: Sequence[Column], methods: Mapping[str, Mapping[str, Any]], caption: str
) -> Html:
    """Lay out methods by metrics.

    Controls are in italics and take no part in best and tied. A method that could not be done
    stands below the others with its reason.

    Args:
        columns: At least one.
        methods: Details by name: ``title``, ``control``, and ``reason`` of one that is not possible.
        caption: What the table shows.

    Returns:
        A table whose columns can be sorted where scripts run, inside a box that scrolls sideways.
    """
    heads = [element("th", "method", scope="col")] + [_head(column) for column in columns]
    rows, impossible = [], []
    for name, details in methods.items():
        kind = "control" if details.get("control") else None
        title = element("th", details.get("title") or name, scope="row")
        if details.get("reason"):
            told = element("td", f"not possible: {details['reason']}", colspan=len(columns))
            impossible.append(element("tr", title, told, class_="impossible"))
        else:
            cells = [_cell(column, name) for column in columns]
            rows.append(element("tr", title, *cells, class_=kind))
    table = element(
        "table",
        element("caption", caption),
        element("thead", element("tr", *heads)),
        element("tbody", *rows),
        element("tbody", *impossible, class_="fixed") if impossible else "",
        class_="scores",
    )
    return element("div", table, class_="scroll", tabindex="0", role="region", aria_label=caption)


def shown(value: float, unit: str = "") -> str:
    """Return a number with as many digits as a reader can use.

    Example:
        >>> shown(12.345, "%"), shown(0.12345), shown(1234.5), shown(float("nan"))
        ('12.3', '0.123', '1234', '–')
    """
    if not math.isfinite(value):
        return "–"
    size = abs(value)
    digits = 1 if unit == "%" or size >= 10 else 2 if size >= 1 else 3
    text = f"{value:.{0 if size >= 1000 else digits}f}"
    return text.lstrip("-") if float(text) == 0 else text.replace("-", "\N{MINUS SIGN}")


def _head(column: Column) -> Html:
    better = {True: "higher is better", False: "lower is better", None: "neither end is better"}
    unit = "" if not column.unit or column.unit in column.title else f" [{column.unit}]"
    return element(
        "th",
        f"{column.title}{unit}{column.arrow}",
        element("small", f"n = {column.images}"),
        scope="col",
        title=f"{column.name}: {better[column.higher_is_better]}",
    )


def _cell(column: Column, method: str) -> Html:
    mean = column.cells.get(method)
    if mean is None or not math.isfinite(mean.mean):
        return element("td", "–")
    value: object = shown(mean.mean, column.unit)
    kind = None
    if method in column.best:
        value, kind = element("b", value), "best"
    elif method in column.tied:
        tie = element("span", "≈", class_="mark", title="not significantly worse than the best")
        value, kind = join(tie, value), "tied"
    interval = f"{shown(mean.low, column.unit)} – {shown(mean.high, column.unit)}"
    fewer = f", n = {mean.n}" if mean.n != column.images else ""
    return element(
        "td", value, element("small", interval, fewer), class_=kind, data_value=repr(mean.mean)
    )
