"""Methods by metrics as an HTML table: means over intervals, best and tied ones marked."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING, Any, NamedTuple

from ttame.benchmarking.report.markup import DASH, Html, element, join
from ttame.metrics.measure import ARROWS

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
    def digits(self) -> int:
        """Decimals that a reader can use, the same in the whole column."""
        sizes = [abs(mean.mean) for mean in self.cells.values() if math.isfinite(mean.mean)]
        largest = max(sizes, default=0.0)
        if largest >= 1000 or (not self.unit and all(size.is_integer() for size in sizes)):
            return 0
        return 1 if self.unit == "%" or largest >= 10 else 2 if largest >= 1 else 3

    @property
    def arrow(self) -> str:
        """Which end is better."""
        return f" {ARROWS[self.higher_is_better]}".rstrip()


def score_table(
    groups: Mapping[str, Sequence[Column]], methods: Mapping[str, Mapping[str, Any]]
) -> Html:
    """Lay out methods by metrics.

    Controls are in italics and take no part in best and tied. A method that could not be done
    stands below the others with its reason.

    Args:
        groups: Columns under a common heading each; at least one column.
        methods: Details by name: ``title``, ``control``, ``subject`` of the one that the table is
            about, and ``reason`` where it could not be done.

    Returns:
        A table whose columns can be sorted where scripts run, inside a box that scrolls sideways.
    """
    columns = [column for group in groups.values() for column in group]
    tops = [element("td")] + [
        element("th", name, scope="colgroup", colspan=len(group)) for name, group in groups.items()
    ]
    top = element("tr", *tops, class_="groups") if len(groups) > 1 else ""
    heads = [element("th", "method", scope="col"), *map(_head, columns)]
    rows, impossible = [], []
    for name, details in methods.items():
        kind = "control" if details.get("control") else None
        kind = "subject" if details.get("subject") else kind
        title = element("th", details.get("title") or name, scope="row")
        if details.get("reason"):
            told = element("td", details["reason"], colspan=len(columns))
            impossible.append(element("tr", title, told, class_="impossible"))
        else:
            cells = [_cell(column, name) for column in columns]
            rows.append(element("tr", title, *cells, class_=kind))
    table = element(
        "table",
        element("thead", top, element("tr", *heads)),
        element("tbody", *rows),
        element("tbody", *impossible, class_="fixed") if impossible else "",
        class_="scores",
    )
    label = ", ".join(groups)
    return element("div", table, class_="scroll", tabindex="0", role="region", aria_label=label)


def shown(value: float, digits: int) -> str:
    """Return a number for people.

    Example:
        >>> shown(12.345, 1), shown(-0.04, 1), shown(float("nan"), 1) == DASH
        ('12.3', '0.0', True)
    """
    if not math.isfinite(value):
        return DASH
    text = f"{value:.{digits}f}"
    return text.lstrip("-") if float(text) == 0 else text.replace("-", "\N{MINUS SIGN}")


def _head(column: Column) -> Html:
    better = {True: "higher is better", False: "lower is better", None: "neither end is better"}
    unit = "" if not column.unit or column.unit in column.title else f" [{column.unit}]"
    return element(
        "th",
        f"{column.title}{unit}{column.arrow}",
        element("small", f"n = {column.images}") if column.images else "",
        scope="col",
        title=f"{column.name}: {better[column.higher_is_better]}",
    )


def _cell(column: Column, method: str) -> Html:
    mean = column.cells.get(method)
    if mean is None or not math.isfinite(mean.mean):
        return element("td", DASH)
    value: object = shown(mean.mean, column.digits)
    kind = None
    if method in column.best:
        value, kind = element("b", value), "best"
    elif method in column.tied:
        tie = element("span", "≈", class_="mark", title="not significantly worse than the best")
        value, kind = join(tie, value), "tied"
    interval = f"{shown(mean.low, column.digits)} {DASH} {shown(mean.high, column.digits)}"
    if math.isnan(mean.low):
        interval = ""
    fewer = f", n = {mean.n}" if mean.n != column.images else ""
    return element(
        "td", value, element("small", interval, fewer), class_=kind, data_value=repr(mean.mean)
    )
