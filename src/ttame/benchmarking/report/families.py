"""Families of metrics: which columns stand together in the report."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

OTHER = "Other"
_Item = TypeVar("_Item")

# The first pattern that fits the whole name decides.
_FAMILIES = {
    "Faithfulness, area-matched": r"(ad|ic|ag)_[\d.]+_matched",
    "Faithfulness, plain": r"(ad|ic|ag)_[\d.]+|mask_area",
    "ADCC": r"adcc.*|coherency.*|complexity.*",
    "Transfer to another classifier": r"transfer.*",
    "ROAD": r"road.*",
    "Insertion and deletion": r"(insertion|deletion).*",
    "Symmetric relevance gain": r"srg.*",
    "Localisation": r"(pointing|energy|mass|iou|pair).*",
    "Sanity and stability": r"(class_swap|random|noise).*",
    "Cost": r"(forward|backward|passes|ms|seconds|memory|peak).*",
    OTHER: r".*",
}


MAIN_METRICS = (
    *("ad_50_matched", "ic_50_matched", "ad_50", "road_morf", "road_lerf", "insertion"),
    *("deletion", "srg", "transfer_ad_50_matched", "energy_pointing", "pointing", "iou", "adcc"),
)
"""Metrics that stand for their families in figures and verdict, where they were measured."""


def family(metric: str) -> str:
    """Return the family of a metric by its name.

    Example:
        >>> family("ad_50_matched"), family("road_morf"), family("my_own")
        ('Faithfulness, area-matched', 'ROAD', 'Other')
    """
    return next(name for name, pattern in _FAMILIES.items() if re.fullmatch(pattern, metric))


def by_family(metrics: Iterable[str]) -> dict[str, list[str]]:
    """Sort metrics into families, in the report's order; within a family the order stays.

    Example:
        >>> by_family(["srg", "ad_50", "ic_50"])
        {'Faithfulness, plain': ['ad_50', 'ic_50'], 'Symmetric relevance gain': ['srg']}
    """
    groups: dict[str, list[str]] = {name: [] for name in _FAMILIES}
    for metric in metrics:
        groups[family(metric)].append(metric)
    return {name: members for name, members in groups.items() if members}


def packed(
    groups: Mapping[str, Sequence[_Item]], most: int = 10
) -> list[dict[str, Sequence[_Item]]]:
    """Put neighbouring families into one table while it has at most ``most`` columns.

    Example:
        >>> packed({"a": [1, 2, 3], "b": [4], "c": [5, 6]}, most=4)
        [{'a': [1, 2, 3], 'b': [4]}, {'c': [5, 6]}]
    """
    tables: list[dict[str, Sequence[_Item]]] = []
    for name, members in groups.items():
        if not tables or sum(map(len, tables[-1].values())) + len(members) > most:
            tables.append({})
        tables[-1][name] = members
    return tables
