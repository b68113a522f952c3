"""Whether a map finds its class beside another one: pictures of two photos each."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from ttame.metrics.localisation import box_regions, energy
from ttame.metrics.measure import Metric, Scores, register
from ttame.metrics.similarity import mean_ranks

if TYPE_CHECKING:
    from torch import Tensor

    from ttame.metrics.case import Case


def ordered_right(masks: Tensor, regions: Tensor) -> Tensor:
    """Return how often a pixel of the region lies above a pixel outside of it, in percent.

    The area under the ROC curve of the mask as a detector of the region: ``(R - n (n + 1) / 2) /
    (n m)`` with the sum R of the ranks of the n pixels inside, m outside. Higher is better, chance
    is 50. Equal values count one half; so do, in part, values less than 0.001 apart, see
    :func:`ttame.metrics.similarity.spearman`. But for these no monotone change of a mask moves it.

    Args:
        masks: (B, H, W) on the scale of [0, 1], without NaN.
        regions: (B, H, W) boolean.

    Returns:
        (B,) float64 in [0, 100]; NaN where a region is empty or everything.

    Example:
        >>> region = torch.tensor([[[True, True, False, False]]])
        >>> ordered_right(torch.tensor([[[0.9, 0.2, 0.4, 0.0]]]), region)
        tensor([75.0000], dtype=torch.float64)
    """
    inside = regions.flatten(1)
    n = inside.sum(dim=1).double()
    m = inside.shape[1] - n
    ranks = (mean_ranks(masks).flatten(1) * inside).sum(dim=1)
    found = (100 * (ranks - n * (n + 1) / 2) / (n * m)).clamp(0, 100)
    return found.masked_fill((n == 0) | (m == 0), torch.nan)


@register(
    name="pairs",
    title="Pairs of photos",
    paper="after Böhle et al. (grid pointing game), CVPR 2021, arXiv 2104.00032",
    needs=("pair",),
    metrics={
        "pair_order": Metric("own photo above the other", higher_is_better=True, unit="%"),
        "pair_energy": Metric("mass on the own photo", higher_is_better=True, unit="%"),
    },
)
def pairs(case: Case) -> Scores:
    """Look where the map of a photo's class lies in a picture of that photo and of another one.

    Chance is 50 in both, whatever the size of the map. A map that does not depend on the class
    gets 50 in the mean as well: by turns the one or the other photo is the explained one.

    Args:
        case: Masks, and the half of the picture that shows the explained photo, as a box.

    Returns:
        ``pair_order``, area-matched (:func:`ordered_right`), and ``pair_energy``, the share of the
        mask's mass, in percent.

    Raises:
        InputError: The truth is not one entry per image.
    """
    regions = box_regions(case)[0]
    return Scores(
        {
            "pair_order": ordered_right(case.masks, regions),
            "pair_energy": energy(case.masks, regions),
        }
    )
