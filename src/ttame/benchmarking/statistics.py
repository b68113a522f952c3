"""How sure a mean over images is."""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import TYPE_CHECKING

import numpy as np

from ttame.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

# Resampling counts held in memory at once: 2**22 of 8 bytes are 32 MiB.
_BLOCK = 2**22


def bootstrap_interval(
    values: ArrayLike, level: float = 0.95, resamples: int = 2000, seed: int = 0
) -> tuple[float, float]:
    """Return the percentile bootstrap interval of the mean over images, widened for few of them.

    Efron, "Bootstrap methods: another look at the jackknife", Annals of Statistics 1979. The plain
    interval of few images is too narrow; its tails are taken at
    ``Phi(-sqrt(n / (n - 1)) t_{n - 1})`` instead, with t the quantile of Student's distribution
    (Hesterberg, "What teachers should know about the bootstrap", The American Statistician 2015).
    With 10 images it is a fifth wider, with 100 one part in 60.

    Args:
        values: (N,) one value per image.
        level: Coverage, in (0, 1).
        resamples: How often N images are drawn with replacement.
        seed: Seed of the draws; the same seed and N draw the same images for every metric.

    Returns:
        Lower and upper end; both NaN without images, both the value itself with one image or where
        all are equal, which is no certainty.

    Raises:
        InputError: A value is out of range, or ``values`` is not one-dimensional.

    Example:
        >>> bootstrap_interval([3.0, 3.0, 3.0])
        (3.0, 3.0)
    """
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1:
        raise InputError(f"expected one value per image, got an array of shape {array.shape}")
    low, high = bootstrap_intervals(array[:, None], level, resamples, seed)
    return float(low[0]), float(high[0])


def bootstrap_intervals(
    values: ArrayLike, level: float = 0.95, resamples: int = 2000, seed: int = 0
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return :func:`bootstrap_interval` of many metrics at once, from the same draws.

    Args:
        values: (N, M), one row per image and one column per metric.
        level: Coverage, in (0, 1).
        resamples: How often N images are drawn with replacement.
        seed: Seed of the draws.

    Returns:
        Lower and upper ends, each (M,).

    Raises:
        InputError: A value is out of range, or ``values`` is not two-dimensional.
    """
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 2:
        raise InputError(f"expected images x metrics, got an array of shape {array.shape}")
    if not 0 < level < 1:
        raise InputError(f"expected a coverage level between 0 and 1, got {level}")
    if resamples < 1:
        raise InputError(f"expected at least 1 resample, got {resamples}")
    images, metrics = array.shape
    if images == 0:
        return np.full(metrics, np.nan), np.full(metrics, np.nan)
    generator = np.random.default_rng(seed)
    centre = array.mean(axis=0)
    means = []
    block = max(1, _BLOCK // images)
    for start in range(0, resamples, block):
        # How often each image is drawn in N draws with replacement is multinomial.
        draws = min(block, resamples - start)
        counts = generator.multinomial(images, np.full(images, 1 / images), size=draws)
        # Around the mean, so that a constant column has an interval of width exactly 0.
        means.append(centre + counts @ (array - centre) / images)
    tail = _tail(level, images)
    low, high = np.quantile(np.concatenate(means), [tail, 1 - tail], axis=0)
    # Rounding must not carry a mean beyond the values themselves (an AD of -1e-15).
    least, most = array.min(axis=0), array.max(axis=0)
    return np.clip(low, least, most), np.clip(high, least, most)


def _tail(level: float, images: int) -> float:
    """Return the share of resampled means beyond either end of the interval."""
    normal = NormalDist()
    wide = -normal.inv_cdf((1 - level) / 2)
    if images > 1:
        wide = math.sqrt(images / (images - 1)) * _student_quantile(wide, images - 1)
    return normal.cdf(-wide)


def _student_quantile(z: float, freedom: int) -> float:
    """Return the quantile of Student's t where the normal distribution has z.

    The expansion of Cornish and Fisher (Abramowitz and Stegun, 26.7.5): within 1 % from 2 degrees
    of freedom on at levels up to 0.95; with fewer, as far out as any resampled mean lies.
    """
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return z + sum(term / float(freedom) ** power for power, term in enumerate(terms, start=1))
