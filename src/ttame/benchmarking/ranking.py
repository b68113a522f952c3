"""Mean ranks of methods over photos, and by how much they must differ to mean something."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from ttame.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


_TIED = 1e-4


class Friedman(NamedTuple):
    """Friedman's test: do the methods' ranks differ at all?"""

    statistic: float
    p: float


def photo_ranks(values: ArrayLike, higher_is_better: bool) -> NDArray[np.float64]:
    """Rank the methods on every photo: 1 the best, ties share their mean rank.

    Values that differ by at most 1e-4 of the range on a usual photo (the median) are tied: methods
    that give the same map by other ways differ by so much where pixels swap their ranks.

    Args:
        values: (N, k) without NaN, a row per photo and a column per method.
        higher_is_better: Which end is rank 1.

    Returns:
        (N, k); every row adds up to k (k + 1) / 2.

    Raises:
        InputError: The shape is wrong, or a value is NaN.

    Example:
        >>> photo_ranks([[5.0, 7.0, 5.0]], higher_is_better=True)
        array([[2.5, 1. , 2.5]])
    """
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 2 or np.isnan(array).any():
        raise InputError(
            f"expected photos x methods without NaN, got shape {array.shape} with "
            f"{int(np.isnan(array).sum())} NaN"
        )
    signed = -array if higher_is_better else array
    finite = array[np.isfinite(array).all(axis=1)]
    tied = _TIED * float(np.median(np.ptp(finite, axis=1))) if finite.size else 0.0
    one, other = signed[:, :, None], signed[:, None, :]
    with np.errstate(invalid="ignore"):  # infinity less infinity
        near = (one == other) | (np.abs(one - other) <= tied)
    below, equal = ((one > other) & ~near).sum(axis=2), near.sum(axis=2)
    ranks: NDArray[np.float64] = below + (equal + 1) / 2
    return ranks


def friedman(ranks: ArrayLike) -> Friedman:
    """Test whether all methods rank alike, corrected for ties.

    ``chi2 = 12 N / (k (k + 1)) * sum_j (R_j - (k + 1) / 2)^2 / (1 - ties)``, with k - 1 degrees of
    freedom. Friedman, "The use of ranks to avoid the assumption of normality", JASA 1937.

    Args:
        ranks: (N, k) from :func:`photo_ranks`.

    Returns:
        Statistic 0 and p = 1 where there is nothing to compare: one method, no photo, or ties only.

    Example:
        >>> statistic, p = friedman([[1.0, 2.0, 3.0]] * 4)
        >>> round(statistic, 6), round(p, 6)
        (8.0, 0.018316)
    """
    array = np.asarray(ranks, dtype=np.float64)
    photos, methods = array.shape
    spread = float(((array - (methods + 1) / 2) ** 2).sum())
    if photos == 0 or methods < 2 or spread == 0:
        return Friedman(0.0, 1.0)
    deviations = array.mean(axis=0) - (methods + 1) / 2
    # (k - 1) N^2 sum_j d_j^2 / sum_ij d_ij^2 is the statistic with the correction for ties inside.
    statistic = (methods - 1) * photos**2 * float((deviations**2).sum()) / spread
    half = torch.tensor([(methods - 1) / 2, statistic / 2], dtype=torch.float64)
    return Friedman(statistic, float(torch.special.gammaincc(half[0], half[1])))


def critical_difference(methods: int, photos: int, level: float = 0.05) -> float:
    """Return Nemenyi's critical difference of two mean ranks.

    ``q * sqrt(k (k + 1) / (6 N))``, where ``q`` is the quantile of the studentised range with
    infinite degrees of freedom over the square root of 2. Demsar, "Statistical comparisons of
    classifiers over multiple data sets", JMLR 2006.

    Args:
        methods: k, at least 2.
        photos: N, at least 1.
        level: Chance of calling any two equal methods different.

    Raises:
        InputError: A number is out of range.

    Example:
        >>> round(critical_difference(methods=4, photos=14), 3)
        1.254
    """
    if methods < 2 or photos < 1 or not 0 < level < 1:
        raise InputError(
            "expected at least 2 methods, 1 photo and a level in (0, 1), got "
            f"{methods}, {photos} and {level}"
        )
    quantile = studentised_range_quantile(1 - level, methods) / math.sqrt(2)
    return quantile * math.sqrt(methods * (methods + 1) / (6 * photos))


def studentised_range_quantile(probability: float, count: int) -> float:
    """Return the quantile of the range of ``count`` standard normal numbers, by bisection.

    ``P(range <= q) = k * integral phi(z) (Phi(z) - Phi(z - q))^(k - 1) dz``.

    Example:
        >>> round(studentised_range_quantile(0.95, 2), 3)
        2.772
    """
    z = torch.linspace(-9, 9, 6001, dtype=torch.float64)
    density = torch.exp(-z.square() / 2) / math.sqrt(2 * math.pi)
    low, high = 0.0, 20.0
    for _ in range(60):
        middle = (low + high) / 2
        inside = torch.special.ndtr(z) - torch.special.ndtr(z - middle)
        reached = count * float(torch.trapezoid(density * inside.pow(count - 1), z))
        low, high = (middle, high) if reached < probability else (low, middle)
    return (low + high) / 2
