"""ROAD: does the predicted class stay when pixels are removed without a trace?"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from ttame.activation import are_predicted, probabilities
from ttame.metrics.imputation import NOISE, filled_at_once, impute
from ttame.metrics.measure import Metric, Scores, register
from ttame.metrics.perturbation import logits_along, of_classes, removal_ranks
from ttame.metrics.shares import check_shares, image_seeds

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from ttame.metrics.case import Case

DEFAULT_SHARES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.7, 0.9)


def first_to_go(ranks: Tensor, share: float) -> Tensor:
    """Mark exactly ``round(share * H * W)`` pixels: those that go first.

    Args:
        ranks: (B, H, W), see :func:`ttame.metrics.perturbation.removal_ranks`.
        share: In (0, 1].

    Returns:
        (B, H, W) boolean.

    Example:
        >>> import torch
        >>> first_to_go(torch.tensor([[[3, 0], [1, 2]]]), 0.5)
        tensor([[[False,  True],
                 [ True, False]]])
    """
    return ranks < round(share * ranks[0].numel())


def kept_curve(logits: Tensor, classes: Tensor, activation: str = "softmax") -> Tensor:
    """Say at which steps of a removal the classes are still predicted.

    Args:
        logits: (B, S, K), of each image after each of S steps.
        classes: (B,).
        activation: See :func:`ttame.activation.are_predicted`.

    Returns:
        (B, S) float64: 100 where the class is predicted, 0 where it is not, NaN where its
        probability is no number.

    Example:
        >>> kept_curve(torch.tensor([[[3.0, 1.0], [0.0, 1.0]]]), torch.tensor([0])).tolist()
        [[100.0, 0.0]]
    """
    kept = 100 * are_predicted(logits, classes[:, None].expand(logits.shape[:2]), activation)
    p = of_classes(probabilities(logits, activation), classes)
    return kept.double().masked_fill(p.isnan(), torch.nan)


@register(
    name="road",
    title="ROAD",
    paper="Rong et al., ICML 2022 (arXiv 2202.00449)",
    metrics={
        "road_morf": Metric("ROAD, most relevant first", False, "%"),
        "road_lerf": Metric("ROAD, least relevant first", True, "%"),
        "road_combined": Metric("ROAD, combined", True, "%"),
    },
    options={"shares": DEFAULT_SHARES, "noise": NOISE},
    passes=lambda options: 2 * len(options["shares"]),
)
def road(case: Case, shares: Sequence[float] = DEFAULT_SHARES, noise: float = NOISE) -> Scores:
    """Remove and impute shares of the pixels and see whether the class is still predicted.

    An image's value is 100 times the mean over the shares of 1 where the explained class (by
    default the predicted one) is still the classifier's first choice (of a multi-label classifier:
    still has a probability of at least 1/2), and 0 where it is not. The
    unchanged image is not among the shares: it would only add the same constant to every method.
    A class of a multi-label classifier that is not predicted on the unchanged image has no value:
    it cannot stay predicted.

    Args:
        case: Photos and masks.
        shares: Shares of the pixels that are removed, in (0, 1].
        noise: Standard deviation of the noise on imputed pixels.

    Returns:
        ``road_morf`` and ``road_lerf`` in percent of the shares, ``road_combined`` as half their
        difference, ``(lerf - morf) / 2``, as in ``grad-cam`` (there of confidences), in [-50, 50];
        curves ``road_morf`` and ``road_lerf``, 0 or 100 at each share.

    Raises:
        InputError: The shares or the noise are wrong.
    """
    check_shares(shares)
    # Every removal has noise of its own.
    seeds = [image_seeds(seed, range(2 * len(shares))) for seed in case.seeds]
    activation = case.backbone.activation
    never = case.p.isnan() | ((case.p < 0.5) & (activation == "sigmoid"))
    held = filled_at_once(case.pixels.device, case.batch_size)
    curves = {}
    for place, name in enumerate(("road_morf", "road_lerf")):
        ranks = removal_ranks(case.masks, case.seeds, most_first=name == "road_morf")

        def removed(steps: Sequence[int], ranks: Tensor = ranks, place: int = place) -> Tensor:
            gone = torch.cat([first_to_go(ranks, shares[step]) for step in steps])
            drawn = [own[place * len(shares) + step] for step in steps for own in seeds]
            return impute(case.pixels.repeat(len(steps), 1, 1, 1), gone, drawn, noise)

        logits = logits_along(case, range(len(shares)), removed, held)
        kept = kept_curve(logits, case.classes, activation)
        curves[name] = kept.masked_fill(never[:, None], torch.nan)
    values = {name: curve.mean(dim=1) for name, curve in curves.items()}
    combined = (values["road_lerf"] - values["road_morf"]) / 2
    return Scores({**values, "road_combined": combined}, curves)
