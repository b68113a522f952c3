"""Where the explainer does worst: the photos that a reader should look at."""

from __future__ import annotations

from typing import NamedTuple

import pandas as pd

from ttame.errors import unknown_name


class Worst(NamedTuple):
    """A photo on which a method does badly.

    Attributes:
        file: The photo.
        note: Why it was chosen, in words.
    """

    file: str
    note: str


def worst_cases(
    per_image: pd.DataFrame,
    method: str,
    metric: str,
    higher_is_better: bool,
    rival: str | None = None,
    count: int = 3,
) -> list[Worst]:
    """Find the photos with a method's worst values, and those where it loses most to a rival.

    Args:
        per_image: Rows of ``file``, ``method`` and the metric.
        method: Whose failures are wanted.
        metric: A column.
        higher_is_better: Which end of the metric is good.
        rival: Name of another method; None looks at the values alone.
        count: Photos of each kind at most.

    Returns:
        First the worst values, then the greatest losses, no photo twice. Photos without a value,
        and losses that are none, do not count; equal ones come in the order of their files.

    Raises:
        UnknownNameError: There is no such method or metric.

    Example:
        >>> rows = [("a", "x", 10.0), ("b", "x", 30.0), ("a", "y", 5.0), ("b", "y", 40.0)]
        >>> table = pd.DataFrame(rows, columns=["file", "method", "ad_50"])
        >>> [case.file for case in worst_cases(table, "x", "ad_50", False, "y", count=1)]
        ['b', 'a']
    """
    if metric not in per_image.columns:
        raise unknown_name("metric", metric, map(str, per_image.columns))
    known = set(per_image["method"])
    for name in (method, rival):
        if name is not None and name not in known:
            raise unknown_name("method", name, sorted(known))
    bad = _values(per_image, method, metric) * (-1 if higher_is_better else 1)
    cases = [
        Worst(file, f"among its worst: {metric} {_number(bad[file], higher_is_better)}")
        for file in _largest(bad, count)
    ]
    if rival is not None:
        other = _values(per_image, rival, metric) * (-1 if higher_is_better else 1)
        loss = (bad - other).dropna()
        taken = {case.file for case in cases}
        loss = loss[(loss > 0) & ~loss.index.isin(taken)]
        cases += [
            Worst(
                file,
                f"loses most to {rival}: {metric} {_number(bad[file], higher_is_better)} "
                f"against {_number(other[file], higher_is_better)}",
            )
            for file in _largest(loss, count)
        ]
    return cases


def _values(per_image: pd.DataFrame, method: str, metric: str) -> pd.Series[float]:
    rows = per_image[per_image["method"] == method].drop_duplicates("file")
    values: pd.Series[float] = rows.set_index("file")[metric].astype(float).dropna()
    return values


def _largest(values: pd.Series[float], count: int) -> list[str]:
    ordered = values.sort_index().sort_values(ascending=False, kind="stable")
    return [str(file) for file in ordered.index[:count]]


def _number(value: float, negated: bool) -> str:
    return f"{-value if negated else value:.3g}"
