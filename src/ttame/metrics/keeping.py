"""AD, IC and AG: what stays of the confidence when only the mask's share of the image stays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

from ttame.masking import apply_mask
from ttame.metrics.faithfulness import CONFIDENCE_METRICS, mask_area
from ttame.metrics.fills import fill_photos
from ttame.metrics.measure import Metric, Scores, register
from ttame.metrics.shares import area_matched, cut_to_shares

if TYPE_CHECKING:
    from torch import Tensor

    from ttame.metrics.case import Case

DEFAULT_SHARES = (1.0, 0.5, 0.15)


def metric_name(name: str, share: float, matched: bool) -> str:
    """Return the name of a metric at a share of the pixels.

    Example:
        >>> metric_name("ad", 0.15, matched=True)
        'ad_15_matched'
    """
    return f"{name}_{100 * share:g}" + ("_matched" if matched else "")


def _metrics(options: Mapping[str, Any]) -> dict[str, Metric]:
    table = {
        metric_name(name, share, matched): Metric(
            f"{name.upper()} {100 * share:g} %" + (", area-matched" if matched else ""),
            bool(kind.higher_is_better),
            "%",
        )
        for matched in (False, True)
        for share in options["shares"]
        for name, kind in CONFIDENCE_METRICS.items()
    }
    return {**table, "mask_area": Metric("mask area", None)}


@register(
    name="confidence",
    title="AD, IC and AG",
    paper="Chattopadhay et al., WACV 2018; Zhang et al., CVIU 2024 (AG); area-matched: ours",
    metrics=_metrics,
    options={"shares": DEFAULT_SHARES, "rule": "quantile", "fill": "black"},
    passes=lambda options: 2 * len(options["shares"]),
)
def confidence(
    case: Case,
    shares: Sequence[float] = DEFAULT_SHARES,
    rule: str = "quantile",
    fill: str = "black",
) -> Scores:
    """Mask each image by its map, plain and area-matched, and see how the confidence moves.

    Args:
        case: Photos and masks.
        shares: Shares of the pixels that stay, most important first, in (0, 1].
        rule: ``"quantile"`` or ``"exact"``, see :func:`ttame.metrics.shares.cut_to_shares`.
        fill: What masked pixels become, one of :data:`ttame.metrics.fills.FILLS`.

    Returns:
        ``ad_100``, ``ic_100``, ``ag_100``, ..., ``ag_15_matched`` in percent and ``mask_area``.

    Raises:
        InputError: The shares are wrong.
        UnknownNameError: The rule or the fill is unknown.
    """
    plain = cut_to_shares(case.masks, shares, rule, case.seeds)
    matched = cut_to_shares(area_matched(case.masks, case.seeds), shares, rule, case.seeds)
    masks = torch.cat([plain, matched], dim=1)
    o = _masked_probabilities(case, masks, fill_photos(case, fill))
    # An image that is not masked at all has p by definition; a second pass has p plus rounding
    # noise, and IC would count every other one as an increase.
    o = torch.where((masks == 1).all(dim=-1).all(dim=-1), case.p[:, None], o)
    cuts = [(share, is_matched) for is_matched in (False, True) for share in shares]
    values = {
        metric_name(name, *cut): metric.function(case.p, column)
        for cut, column in zip(cuts, o.unbind(dim=1), strict=True)
        for name, metric in CONFIDENCE_METRICS.items()
    }
    return Scores({**values, "mask_area": mask_area(case.masks)})


def _masked_probabilities(case: Case, masks: Tensor, beneath: Tensor) -> Tensor:
    """Return the classes' probabilities (B, V) under V masks (B, V, H, W) over what is beneath."""
    images, variants = masks.shape[:2]
    flat = masks.flatten(0, 1)
    owners = torch.arange(len(flat), device=flat.device) // variants
    parts = [
        case.probabilities(apply_mask(case.pixels[which], mask[:, None], beneath[which]), which)
        for mask, which in zip(
            torch.split(flat, case.batch_size),
            torch.split(owners, case.batch_size),
            strict=True,
        )
    ]
    return torch.cat(parts).view(images, variants)
