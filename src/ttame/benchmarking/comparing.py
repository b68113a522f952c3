"""Is one method better than another on the same photos? A permutation test, and its correction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ttame.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

# Random signs held in memory at once: 2**22 of 8 bytes are 32 MiB.
_BLOCK = 2**22


def sign_flip_p_values(
    differences: ArrayLike, seed: int = 0, flips: int = 9999
) -> NDArray[np.float64]:
    """Return two-sided p-values of mean differences under random signs.

    If two methods were alike, each photo's difference could as well have the other sign. The
    p-value is the share of sign patterns, the observed one counted in, whose mean is at least as
    far from 0. With so few photos that all patterns are no more than ``flips + 1``, all are tried
    and the p-value is exact. Fisher, "The Design of Experiments", 1935, section 21; Phipson and
    Smyth, "Permutation p-values should never be zero", 2010.

    Args:
        differences: (N, M) without NaN, a row per photo and a column per pair of methods.
        seed: Of the signs; all columns share them.
        flips: How many random patterns; the smallest p-value is 1 / (flips + 1).

    Returns:
        (M,) in (0, 1]; 1 where all differences are 0, NaN without photos.

    Raises:
        InputError: ``flips`` is below 1, or the differences are not two-dimensional.

    Example:
        >>> sign_flip_p_values([[1.0, 0.0], [2.0, 0.0], [3.0, 0.0]])
        array([0.25, 1.  ])
    """
    values = np.asarray(differences, dtype=np.float64)
    if values.ndim != 2 or flips < 1:
        raise InputError(
            f"expected photos x pairs and flips >= 1, got shape {values.shape} and flips={flips}"
        )
    photos, pairs = values.shape
    if not photos:
        return np.full(pairs, np.nan)
    # Rounding must not decide whether a pattern is as far from 0 as the observed one.
    limits = np.abs(values.sum(axis=0)) - 1e-12 * np.abs(values).sum(axis=0)
    if photos < 63 and 2**photos <= flips + 1:
        patterns = np.arange(2**photos)[:, None] >> np.arange(photos)
        exact: NDArray[np.float64] = _reached(patterns & 1, values, limits) / len(patterns)
        return exact
    generator = np.random.default_rng(seed)
    reached, block = np.zeros(pairs, dtype=np.int64), max(1, _BLOCK // photos)
    for start in range(0, flips, block):
        size = (min(block, flips - start), photos)
        reached += _reached(generator.integers(0, 2, size, dtype=np.int8), values, limits)
    p_values: NDArray[np.float64] = (1 + reached) / (1 + flips)
    return p_values


def holm(p_values: Sequence[float]) -> list[float]:
    """Correct p-values for testing several hypotheses at once.

    Holm, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of
    Statistics 1979: the chance of a single false discovery stays below the level.

    Args:
        p_values: In [0, 1]; NaN (not tested) stays NaN and is not counted.

    Returns:
        Corrected p-values in the same order.

    Example:
        >>> holm([0.01, 0.04, 0.03])
        [0.03, 0.06, 0.06]
    """
    array: NDArray[np.float64] = np.asarray(p_values, dtype=np.float64)
    tested = np.flatnonzero(~np.isnan(array))
    order = tested[np.argsort(array[tested], kind="stable")]
    factors = np.arange(len(order), 0, -1)
    corrected = array.copy()
    corrected[order] = np.minimum(1, np.maximum.accumulate(factors * array[order]))
    return [float(value) for value in corrected]


def _reached(
    minus: NDArray[np.integer], values: NDArray[np.float64], limits: NDArray[np.float64]
) -> NDArray[np.int64]:
    """Count the patterns, given as 1 where a sign flips, whose sums are as far from 0."""
    sums = (1.0 - 2.0 * minus) @ values
    counts: NDArray[np.int64] = (np.abs(sums) >= limits).sum(axis=0)
    return counts
