"""All comparisons of a benchmark: every method with the best, and mean ranks, metric by metric."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import nan
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ttame.benchmarking.comparing import holm, sign_flip_p_values
from ttame.benchmarking.means import Mean, best_of, column_means, finite
from ttame.benchmarking.ranking import critical_difference, friedman, photo_ranks

if TYPE_CHECKING:
    from ttame.metrics.measure import Metric

LEVEL = 0.05
"""Below this corrected p-value a difference counts as significant."""

_PHOTO = ["set", "file", "class_index"]


def compare(
    per_image: pd.DataFrame,
    rivals: Sequence[str],
    metrics: Mapping[str, Metric],
    seed: int = 0,
) -> dict[str, Any]:
    """Compare methods on every metric that has a better end.

    Args:
        per_image: See :class:`ttame.benchmarking.benchmark_result.BenchmarkResult`.
        rivals: The methods to compare, without controls.
        metrics: The metrics of the table.
        seed: Of bootstrap and permutations.

    Returns:
        ``level`` and ``test`` in words, and ``metrics``: by metric

        - ``best``: the method with the best mean, of those that have the most photos (a slow one
          that was scored on fewer cannot be the best, but is compared with it);
        - ``methods``: for every other one the mean ``difference`` from the best (its value minus
          the best's) on the photos that both have, ``low`` and ``high`` of the 95 % bootstrap
          interval, ``n``, ``p``, ``p_holm`` (over the metric's methods) and ``significant``;
        - ``ranks`` (1 the best), ``ranked_photos``, ``friedman`` (``statistic``, ``p``) and
          ``critical_difference`` (Nemenyi, 5 %) of the methods that have the most photos, on the
          photos that all of them have; with fewer than two methods or no such photo there are
          none.
    """
    compared = {}
    for name, metric in metrics.items():
        if metric.higher_is_better is None:
            continue
        table = _table(per_image, rivals, name)
        if table.shape[1] > 1:
            higher = metric.higher_is_better
            most = table.loc[:, table.count() == table.count().max()]
            means = {str(m): Mean(float(most[m].mean()), nan, nan, len(most)) for m in most}
            best = str(best_of(means, higher))
            compared[name] = {**_with_best(table, best, seed), **_ranks(most, higher)}
    return {
        "level": LEVEL,
        "test": "two-sided sign-flip permutation test of the mean paired difference, 9999 flips; "
        "Holm-corrected over the methods of a metric; the best is found on the same photos, "
        "so that of many methods equal in truth one is called worse in more than 5 % of the cases",
        "metrics": compared,
    }


def _table(per_image: pd.DataFrame, rivals: Sequence[str], metric: str) -> pd.DataFrame:
    """Return photos x methods, without methods and photos that have no value."""
    rows = per_image[per_image["method"].isin(rivals)]
    rows = rows[[*_PHOTO, "method", metric]].dropna(subset=[metric])
    # One photo may be explained for two objects of one class.
    again = rows.groupby([*_PHOTO, "method"]).cumcount()
    table = rows.assign(again=again).pivot(
        index=[*_PHOTO, "again"], columns="method", values=metric
    )
    present: pd.DataFrame = table[[name for name in rivals if name in table.columns]]
    return present


def _with_best(table: pd.DataFrame, best: str, seed: int) -> dict[str, Any]:
    others = [name for name in table.columns if name != best]
    differences = table[others].sub(table[best], axis=0)
    intervals = column_means(differences, seed=seed)
    p_values = _p_values(differences, seed)
    corrected = holm(p_values)
    return {
        "best": best,
        "methods": {
            name: {
                "difference": finite(intervals[name].mean),
                "low": finite(intervals[name].low),
                "high": finite(intervals[name].high),
                "n": intervals[name].n,
                "p": finite(p),
                "p_holm": finite(p_holm),
                "significant": bool(p_holm < LEVEL),
            }
            for name, p, p_holm in zip(others, p_values, corrected, strict=True)
        },
    }


def _p_values(differences: pd.DataFrame, seed: int) -> list[float]:
    """Test every column on the photos that it has; columns with the same photos at once."""
    array = differences.to_numpy(dtype=np.float64)
    known = ~np.isnan(array)
    p_values = np.full(array.shape[1], np.nan)
    for pattern in np.unique(known, axis=1).T:
        columns = np.flatnonzero((known == pattern[:, None]).all(axis=0))
        p_values[columns] = sign_flip_p_values(array[np.ix_(pattern, columns)], seed)
    return [float(p) for p in p_values]


def _ranks(table: pd.DataFrame, higher: bool) -> dict[str, Any]:
    common = table.dropna()
    if not len(common) or common.shape[1] < 2:
        return {"ranked_photos": 0}
    ranks = photo_ranks(common.to_numpy(dtype=np.float64), higher)
    return {
        "ranks": {
            str(name): float(rank)
            for name, rank in zip(common.columns, ranks.mean(axis=0), strict=True)
        },
        "ranked_photos": len(common),
        "friedman": friedman(ranks)._asdict(),
        "critical_difference": critical_difference(ranks.shape[1], len(common), LEVEL),
    }
