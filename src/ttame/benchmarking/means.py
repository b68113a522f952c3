"""Means over images, by method and metric, from a table of every image's values."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from ttame.benchmarking.statistics import bootstrap_intervals
from ttame.errors import unknown_name

if TYPE_CHECKING:
    from numpy.typing import NDArray

# What sums of percents leave where they should be 0.
_REST = 1e-9


class Mean(NamedTuple):
    """A mean over ``n`` images with the ends of its bootstrap interval."""

    mean: float
    low: float
    high: float
    n: int


def method_values(
    per_image: pd.DataFrame, method: str, methods: Iterable[str], metrics: Sequence[str]
) -> pd.DataFrame:
    """Return one method's metric columns, a row per photo.

    Raises:
        UnknownNameError: The method is not one of ``methods``.
    """
    if method not in methods:
        raise unknown_name("method", method, methods)
    rows = (per_image["method"] == method).to_numpy()
    values: pd.DataFrame = per_image.loc[rows, list(metrics)]
    return values


def column_means(
    values: pd.DataFrame, level: float = 0.95, resamples: int = 2000, seed: int = 0
) -> dict[str, Mean]:
    """Return mean and bootstrap interval of every column; NaN values are left out, ``n`` tells.

    Columns that lack the same images share their draws, so that their intervals are comparable.

    Example:
        >>> column_means(pd.DataFrame({"ad": [2.0, 2.0, math.nan]}))
        {'ad': Mean(mean=2.0, low=2.0, high=2.0, n=2)}
    """
    array = values.to_numpy(dtype=np.float64)
    known = ~np.isnan(array)
    groups: dict[bytes, list[int]] = {}
    for place in range(array.shape[1]):
        groups.setdefault(known[:, place].tobytes(), []).append(place)
    means: dict[int, Mean] = {}
    for places in groups.values():
        rows = known[:, places[0]]
        part: NDArray[np.float64] = array[np.ix_(rows, places)]
        lows, highs = bootstrap_intervals(part, level, resamples, seed)
        for place, column, low, high in zip(places, part.T, lows, highs, strict=True):
            mean = float(column.mean()) if len(column) else math.nan
            means[place] = Mean(mean, float(low), float(high), len(column))
    return {str(metric): means[place] for place, metric in enumerate(values.columns)}


def check_metrics(names: Iterable[str], known: Collection[str]) -> None:
    """Refuse metrics that are not among the known ones.

    Raises:
        UnknownNameError: One is unknown.
    """
    for name in names:
        if name not in known:
            raise unknown_name("metric", name, known)


def without_rest(value: float) -> float:
    """Return 0, without a sign, for what is left of rounding.

    Example:
        >>> without_rest(-8.9e-16), without_rest(2e-7)
        (0.0, 2e-07)
    """
    return value if abs(value) >= _REST else 0.0


def most_photos(means: Mapping[str, Mapping[str, Mean]], metric: str) -> int:
    """Return a metric's number of photos, of the method that has most.

    Example:
        >>> most_photos({"slow": {"ad": Mean(9.0, 8.0, 10.0, 5)}, "failed": {}}, "ad")
        5
    """
    return max((columns[metric].n for columns in means.values() if metric in columns), default=0)


def summary_table(means: Mapping[str, Mapping[str, Mean]]) -> pd.DataFrame:
    """Return means by method and metric as a table.

    Returns:
        Columns ``mean``, ``low``, ``high``, ``n``; rows indexed by ``method`` and ``metric``.
    """
    rows = [
        (method, metric, *mean)
        for method, columns in means.items()
        for metric, mean in columns.items()
    ]
    keys = ["method", "metric"]
    frame: pd.DataFrame = pd.DataFrame(rows, columns=[*keys, *Mean._fields]).set_index(keys)
    return frame


def leaders(means: Mapping[str, Mean], higher_is_better: bool | None) -> frozenset[str]:
    """Return who has the best mean of those that were scored on the most images.

    A mean over a few images says little beside one over many, so a slow method that was scored on
    fewer takes no part; what it is worth is told by its paired difference from the best.

    Args:
        means: One metric's mean by method, without controls.
        higher_is_better: None where neither end is better.

    Returns:
        Usually one name; none where there is nobody to compare with or neither end is better.

    Example:
        >>> few, many = Mean(9.0, 8.0, 10.0, 5), Mean(7.0, 6.0, 8.0, 50)
        >>> leaders({"slow": few, "fast": many, "other": many._replace(mean=6.0)}, True)
        frozenset({'fast'})
    """
    known = {name: mean for name, mean in means.items() if math.isfinite(mean.mean)}
    if higher_is_better is None or len(known) < 2:
        return frozenset()
    most = max(mean.n for mean in known.values())
    values = {name: mean.mean for name, mean in known.items() if mean.n == most}
    target = max(values.values()) if higher_is_better else min(values.values())
    return frozenset(name for name, value in values.items() if are_equal(value, target))


def are_equal(one: float, other: float) -> bool:
    """Say whether means are the same but for rounding, of which no digit shown tells.

    Methods that give the same map by other ways differ by so much.

    Example:
        >>> are_equal(70.70595215, 70.70595292), are_equal(70.706, 70.707)
        (True, False)
    """
    return math.isclose(one, other, rel_tol=1e-6, abs_tol=1e-9)


def best_of(means: Mapping[str, Mean], higher_is_better: bool) -> str | None:
    """Return the first of the :func:`leaders`, or the only one there is.

    Example:
        >>> best_of({"only": Mean(9.0, 8.0, 10.0, 5)}, True), best_of({}, True)
        ('only', None)
    """
    first = leaders(means, higher_is_better) or means
    return next((name for name in means if name in first), None)


def means_to_json(means: Mapping[str, Mapping[str, Mean]]) -> dict[str, dict[str, Any]]:
    """Return ``<method>.<metric>.{mean,low,high,n}`` with None for NaN, as JSON knows none."""
    return {
        method: {
            metric: {name: finite(value) for name, value in mean._asdict().items()}
            for metric, mean in columns.items()
        }
        for method, columns in means.items()
    }


def finite(value: float) -> float | None:
    """Return a number that JSON knows: NaN and infinity become None."""
    return value if math.isfinite(value) else None
