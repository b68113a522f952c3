"""Training objectives: keep the class on the masked image, or agree with a teacher's maps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from ttame.activation import log_probabilities
from ttame.masking import minmax
from ttame.metrics.similarity import is_constant, mean_ranks

if TYPE_CHECKING:
    from torch import Tensor

_TINY = 1e-12


@dataclass(frozen=True)
class ObjectiveWeights:
    """Weights of the terms, and the cross-entropy's bound; the defaults are the paper's."""

    cross_entropy: float = 1.5
    area: float = 2.0
    variation: float = 0.01
    bound: float = 0.0


def cross_entropy(
    logits: Tensor, classes: Tensor, bound: float = 0.0, activation: str = "softmax"
) -> Tensor:
    """Mean cross-entropy of the masked images' logits (B, K) with the classes (B,) to be kept.

    Of a multi-label classifier (``activation="sigmoid"``) it is the binary cross-entropy of the
    class alone: the mask of one label need not keep the others.

    With ``bound`` q > 0 it is the generalised cross-entropy ``(1 - o^q) / q`` of the classes'
    probability o (Zhang and Sabuncu, NeurIPS 2018): at most 1/q for a photo whose class is lost,
    so that photos which can be kept decide the training. q = 0 is the cross-entropy itself.

    Example:
        >>> cross_entropy(torch.zeros(1, 4), torch.tensor([2]), bound=0.5)
        tensor(1.)
    """
    kept = log_probabilities(logits.float(), activation).gather(1, classes[:, None])
    if bound == 0:
        return -kept.mean()
    return -torch.expm1(bound * kept).mean() / bound


def area(masks: Tensor, exponent: float = 0.3, offset: float = 5e-4) -> Tensor:
    """Mean of ``(mask + offset) ** exponent`` over all masks (..., H, W) in [0, 1]."""
    return (masks + offset).pow(exponent).mean()


def variation(masks: Tensor, border: float = 0.3) -> Tensor:
    """Squared differences of neighbours plus squared borders, summed, over twice the batch.

    ``V = [sum of squared vertical and horizontal differences + 0.3 * sum of squares on the four
    borders] / (2 B)``: a sum over pixels, so that its weight depends on the masks' resolution.

    Args:
        masks: (B, n, H, W) in [0, 1].
        border: Weight of the four borders.
    """
    differences = masks.diff(dim=-1).square().sum() + masks.diff(dim=-2).square().sum()
    rows = masks[..., 0, :].square().sum() + masks[..., -1, :].square().sum()
    columns = masks[..., :, 0].square().sum() + masks[..., :, -1].square().sum()
    return (differences + border * (rows + columns)) / (2 * len(masks))


def disagreement(maps: Tensor, teacher: Tensor) -> Tensor:
    """One minus the correlation of each map with the ranks of a teacher's map.

    The teacher's order of cells counts, not how far they are apart: only values less than a
    thousandth of the map's span apart share their ranks in part.

    Args:
        maps: (B, n, H, W), any range; no gradient passes to a constant one.
        teacher: The same shape, finite, any range.

    Returns:
        (B, n) in [0, 2]; a constant map of either counts as 1.

    Example:
        >>> maps = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])
        >>> disagreement(maps, maps.exp()), disagreement(maps, -maps)
        (tensor([[0.]]), tensor([[2.]]))
    """
    ranks = mean_ranks(minmax(teacher).flatten(0, 1)).flatten(1)
    ranks = (ranks - ranks.mean(dim=1, keepdim=True)).float()
    values = maps.float().flatten(0, 1)
    # Near a constant map the correlation has an endless slope.
    values = values.masked_fill(is_constant(values)[:, None, None], 0).flatten(1)
    values = values - values.mean(dim=1, keepdim=True)
    scale = values.square().sum(dim=1) * ranks.square().sum(dim=1)
    alike = (values * ranks).sum(dim=1) * torch.rsqrt(scale + _TINY)
    return 1 - alike.view(maps.shape[:2])


def objective(
    logits: Tensor,
    classes: Tensor,
    masks: Tensor,
    weights: ObjectiveWeights,
    activation: str = "softmax",
) -> dict[str, Tensor]:
    """Add the terms of the T-TAME objective.

    Source: Ntrougkas et al., IEEE Access 2024, equation of the loss: 1.5 CE + 2 area + 0.01 V.

    Args:
        logits: Of the masked images, (B, K).
        classes: The classes to be kept, (B,).
        masks: (B, n, H, W) in [0, 1], at the maps' own resolution.
        weights: Weight of every term; a term of weight 0 is still reported.
        activation: The classifier's, see :func:`ttame.activation.probabilities`.

    Returns:
        The unweighted terms ``cross_entropy``, ``area``, ``variation`` and their weighted sum
        ``loss``, each a scalar.
    """
    terms = {
        "cross_entropy": cross_entropy(logits, classes, weights.bound, activation),
        "area": area(masks),
        "variation": variation(masks),
    }
    terms["loss"] = (
        weights.cross_entropy * terms["cross_entropy"]
        + weights.area * terms["area"]
        + weights.variation * terms["variation"]
    )
    return terms
