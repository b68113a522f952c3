"""ADCC: average drop, coherency and complexity in one number."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from ttame.masking import apply_mask
from ttame.metrics.confidence import average_drop
from ttame.metrics.faithfulness import mask_area
from ttame.metrics.fills import fill_photos
from ttame.metrics.measure import Metric, Scores, register
from ttame.metrics.similarity import pearson

if TYPE_CHECKING:
    from torch import Tensor

    from ttame.metrics.case import Case


def complexity(masks: Tensor) -> Tensor:
    """Return how much of the image each mask lights up, in percent: ``100 * mean |mask|``.

    Lower is better: the paper's L1 norm of the map, over its number of pixels.

    Args:
        masks: (B, H, W) in [0, 1].

    Returns:
        (B,) float64 in [0, 100].

    Example:
        >>> complexity(torch.tensor([[[0.0, 1.0], [1.0, 1.0]]]))
        tensor([75.], dtype=torch.float64)
    """
    return 100 * mask_area(masks.abs().double())


def coherency(masks: Tensor, again: Tensor) -> Tensor:
    """Return how much a map stays itself when the masked image is explained, in percent.

    ``100 * (Pearson(mask, mask of the masked image) + 1) / 2``; higher is better. Where one of the
    two is constant the correlation is undefined and counts as 0, so the coherency is 50.

    Args:
        masks: (B, H, W) masks of the images.
        again: (B, H, W) masks of the images under these masks, for the same classes.

    Returns:
        (B,) float64 in [0, 100].

    Raises:
        InputError: The shapes differ.

    Example:
        >>> mask = torch.tensor([[[0.0, 0.5], [0.2, 1.0]]])
        >>> coherency(mask, 2 * mask).round(), coherency(mask, torch.ones(1, 2, 2))
        (tensor([100.], dtype=torch.float64), tensor([50.], dtype=torch.float64))
    """
    return 50 * (pearson(masks, again) + 1)


def adcc(drop: Tensor, coherency: Tensor, complexity: Tensor) -> Tensor:
    """Return the harmonic mean of coherency, 100 - complexity and 100 - average drop, in percent.

    ``3 / (1 / coherency + 1 / (1 - complexity) + 1 / (1 - AD))``; higher is better. The harmonic
    mean is 0 where one of the three is.

    Args:
        drop: (B,) average drop at the whole mask, in [0, 100].
        coherency: (B,) in [0, 100].
        complexity: (B,) in [0, 100].

    Returns:
        (B,) in [0, 100].

    Example:
        >>> values = [torch.tensor([v], dtype=torch.float64) for v in (20, 80, 20)]
        >>> adcc(*values)
        tensor([80.], dtype=torch.float64)
        >>> adcc(torch.tensor([100.0]), torch.tensor([80.0]), torch.tensor([20.0]))
        tensor([0.])
    """
    parts = torch.stack([coherency, 100 - complexity, 100 - drop]).clamp(0, 100)
    none = (parts == 0).any(dim=0)
    mean = 3 / parts.masked_fill(none, 1).reciprocal().sum(dim=0)
    return mean.masked_fill(none, 0)


@register(
    name="adcc",
    title="ADCC",
    paper="Poppi et al., CVPR Workshops 2021, arXiv 2104.10252",
    needs=("maps",),
    metrics={
        "complexity": Metric("complexity", higher_is_better=False, unit="%"),
        "coherency": Metric("coherency", higher_is_better=True, unit="%"),
        "adcc": Metric("ADCC", higher_is_better=True, unit="%"),
    },
    options={"fill": "black"},
    passes=lambda _: 1,
)
def average_drop_coherency_complexity(case: Case, fill: str = "black") -> Scores:
    """Mask each image by its soft map, classify and explain the masked image.

    The mask multiplies the [0, 1] image, as for ``ad_100``. Costs one forward pass and one more
    explanation. The three parts are combined image by image.

    Args:
        case: Photos, masks and the method.
        fill: What masked pixels become, one of :data:`ttame.metrics.fills.FILLS`.

    Returns:
        ``complexity``, ``coherency`` and ``adcc``, in percent as in the paper.

    Raises:
        UnknownNameError: The fill is unknown.
    """
    masked = apply_mask(case.pixels, case.masks[:, None], fill_photos(case, fill))
    drop = average_drop(case.p, case.probabilities(masked))
    simple, coherent = complexity(case.masks), coherency(case.masks, case.masks_of(masked))
    return Scores(
        {"complexity": simple, "coherency": coherent, "adcc": adcc(drop, coherent, simple)}
    )
