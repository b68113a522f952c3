"""The most important share of a map, and maps of equal area.

The order is fixed: a map is normalised to [0, 1] at its own resolution, resized to the image, then
(for the area-matched scores) replaced by its pixel ranks *at the image's resolution*, and only then
cut to its most important share. Ranking before resizing would not give every method the same
distribution of values, because resizing blurs it again.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import torch

from ttame.errors import InputError, unknown_name
from ttame.normalisation import quantile

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

RULES = ("quantile", "exact")

# Values this close to the quantile count as equal to it: a pixel on the quantile must not come and
# go with the rounding noise of the batch size.
_TOLERANCE = 1e-6


def image_seeds(seed: int, indices: Sequence[int]) -> list[int]:
    """Derive one seed per image from its index, so that no result depends on the batch.

    Example:
        >>> image_seeds(0, [4, 9])[1] == image_seeds(0, [9])[0]
        True
    """
    states = [np.random.SeedSequence([seed, index]).generate_state(1) for index in indices]
    return [int(state[0]) for state in states]


def pixel_ranks(masks: Tensor, seeds: Sequence[int]) -> Tensor:
    """Rank the pixels of each mask from 0 (least) to H * W - 1; ties in seeded random order.

    Args:
        masks: (B, H, W), any range, without NaN.
        seeds: One seed per mask.

    Returns:
        (B, H, W) int64; every rank occurs exactly once in each mask.

    Raises:
        InputError: The number of seeds is not B.

    Example:
        >>> pixel_ranks(torch.tensor([[[0.1, 0.9], [0.5, 0.3]]]), [0])
        tensor([[[0, 3], [2, 1]]])
    """
    if len(seeds) != len(masks):
        raise InputError(f"expected one seed per mask, got {len(seeds)} for {len(masks)} masks")
    flat = masks.flatten(1)
    # Sorting a shuffled mask stably leaves equal values in the order of the shuffle.
    shuffle = _shuffles(flat.shape[1], tuple(seeds)).to(flat.device)
    order = flat.gather(1, shuffle).argsort(dim=1, stable=True)
    places = torch.arange(flat.shape[1], device=flat.device).expand_as(order)
    return torch.empty_like(order).scatter_(1, shuffle.gather(1, order), places).view(masks.shape)


# A batch is ranked by every measure of every method, by pixels and by cells.
@lru_cache(maxsize=3)
def _shuffles(places: int, seeds: tuple[int, ...]) -> Tensor:
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    return torch.stack([torch.randperm(places, generator=one) for one in generators])


def area_matched(masks: Tensor, seeds: Sequence[int]) -> Tensor:
    """Replace every mask by its pixel ranks, spread uniformly over [0, 1].

    All methods then share one distribution of values, so a monotone change of a mask cannot move
    its score, and the mean mask area is one half for each of them. (One of a coarse map can, by
    what lies between its cells, unless its normalisation is ``"ranks"``.)

    Args:
        masks: (B, H, W) at the image's resolution, without NaN.
        seeds: One seed per mask, for the order of ties; see :func:`image_seeds`.

    Returns:
        (B, H, W) float32 in [0, 1]; a mask of a single pixel becomes 0.

    Raises:
        InputError: The number of seeds is not B.

    Example:
        >>> area_matched(torch.tensor([[[0.1, 0.9], [0.5, 0.3]]]), [0])
        tensor([[[0.0000, 1.0000], [0.6667, 0.3333]]])
    """
    return pixel_ranks(masks, seeds).float() / max(1, masks[0].numel() - 1)


def check_shares(shares: Sequence[float], rule: str = "quantile") -> None:
    """Refuse shares outside (0, 1], shares given twice, no shares at all, and unknown rules.

    Raises:
        InputError: The shares are wrong.
        UnknownNameError: The rule is unknown.
    """
    if rule not in RULES:
        raise unknown_name("rule", rule, RULES)
    wrong = [share for share in shares if not 0 < share <= 1]
    if wrong or not shares or len(set(shares)) != len(shares):
        raise InputError(f"expected different shares of the pixels in (0, 1], got {list(shares)}")


def cut_to_shares(
    masks: Tensor,
    shares: Sequence[float],
    rule: str = "quantile",
    seeds: Sequence[int] | None = None,
) -> Tensor:
    """Keep the most important share of each mask's pixels and set the others to 0.

    The kept pixels keep their soft values. The rule ``"quantile"`` is the paper's: a pixel goes if
    its value is under the mask's own (1 - share) quantile, interpolated linearly between
    neighbouring values as ``torch.quantile`` does, by more than 1e-6. A plateau at the quantile
    stays as a whole, so that a constant mask loses nothing. The rule ``"exact"`` keeps exactly
    ``round(share * H * W)`` pixels and orders equal values at random, seeded.

    Args:
        masks: (B, H, W) in [0, 1], without NaN.
        shares: S numbers in (0, 1].
        rule: ``"quantile"`` or ``"exact"``.
        seeds: One seed per mask, used by ``"exact"`` only; default 0 for every mask.

    Returns:
        (B, S, H, W) in [0, 1].

    Raises:
        InputError: The shares are wrong (:func:`check_shares`), or the number of seeds is not B.
        UnknownNameError: The rule is unknown.

    Example:
        >>> cut_to_shares(torch.tensor([[[0.1, 0.9], [0.5, 0.3]]]), [1.0, 0.5])
        tensor([[[[0.1000, 0.9000], [0.5000, 0.3000]],
                 [[0.0000, 0.9000], [0.5000, 0.0000]]]])
    """
    check_shares(shares, rule)
    if rule == "exact":
        ranks = pixel_ranks(masks, [0] * len(masks) if seeds is None else seeds)
        pixels = masks[0].numel()
        kept = [ranks >= pixels - round(share * pixels) for share in shares]
    else:
        ordered = masks.flatten(1).sort(dim=1).values
        levels = [quantile(ordered, 1 - share) - _TOLERANCE for share in shares]
        kept = [masks >= level[:, None, None] for level in levels]
    return torch.stack([masks.masked_fill(~keep, 0) for keep in kept], dim=1)
