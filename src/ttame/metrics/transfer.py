"""Transfer: does another architecture still see the class under the mask?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F

from ttame.activation import are_predicted, probabilities
from ttame.errors import InputError, unknown_name
from ttame.masking import apply_mask
from ttame.metrics.confidence import average_drop
from ttame.metrics.fills import fill_photos
from ttame.metrics.keeping import DEFAULT_SHARES, metric_name
from ttame.metrics.measure import Metric, Scores, register
from ttame.metrics.shares import area_matched, cut_to_shares

if TYPE_CHECKING:
    from torch import Tensor

    from ttame.backbone.contract import Backbone
    from ttame.metrics.case import Case


# A judge of one class sees it everywhere.
_FEWEST = 2


def resized_pixels(pixels: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize images (B, C, H, W) in [0, 1] to another classifier's input, with antialiasing.

    Example:
        >>> resized_pixels(torch.ones(1, 3, 8, 8), (4, 6)).shape
        torch.Size([1, 3, 4, 6])
    """
    if pixels.shape[-2:] == size:
        return pixels
    return F.interpolate(
        pixels, size=size, mode="bilinear", align_corners=False, antialias=True
    ).clamp(0, 1)


def judged_classes(
    names: Sequence[str] | None, judge_names: Sequence[str] | None, counts: tuple[int, int]
) -> list[int | None]:
    """Find the classes of a classifier among those of its judge.

    By their names, where both have names; else by their order, where both have the same number of
    classes.

    Args:
        names: Class names of the explained classifier, or None.
        judge_names: Class names of the judge, or None.
        counts: Number of classes of the one and the other.

    Returns:
        For each class of the explained classifier the index that the judge gives it; None where
        the judge does not know it, or where several classes share its name.

    Raises:
        InputError: The judge knows fewer than two of the classes.

    Example:
        >>> judged_classes(("church", "tench"), ("crane", "crane", "tench", "church"), (2, 4))
        [3, 2]
        >>> judged_classes(("church", "otter", "tench"), ("tench", "church"), (3, 2))
        [1, None, 0]
        >>> judged_classes(None, ("cat", "dog"), (2, 2))
        [0, 1]
    """
    if names and judge_names and tuple(names) != tuple(judge_names):
        own, its = Counter(names), Counter(judge_names)
        places = {name: place for place, name in enumerate(judge_names)}
        # Two classes may share a name (ImageNet has two cranes): only their order tells them apart.
        found = [places[name] if own[name] == its[name] == 1 else None for name in names]
        if sum(place is not None for place in found) < _FEWEST:
            missing = next(name for name, place in zip(names, found, strict=True) if place is None)
            raise unknown_name("class of the judge", missing, judge_names)
        return found
    if counts[0] == counts[1]:
        return list(range(counts[0]))
    raise InputError(
        f"expected a judge over the same {counts[0]} classes, got {counts[1]} and no class "
        "names that tell which are which; choose a judge trained on these classes"
    )


def judge_columns(backbone: Backbone, judge: Backbone) -> list[int | None]:
    """Return :func:`judged_classes` of two classifiers."""
    counts = (backbone.num_classes, judge.num_classes)
    return judged_classes(backbone.class_names, judge.class_names, counts)


def judged_drop(
    full: Tensor, masked: Tensor, classes: Tensor, activation: str = "softmax"
) -> Tensor:
    """Return by how much the judge's probability of the classes drops, in percent of it.

    Args:
        full: (B, K) the judge's logits of whole images.
        masked: (B, K) those of masked images.
        classes: (B,).
        activation: The judge's.

    Returns:
        (B,) in [0, 100]; NaN where the judge does not predict the class on the whole image.

    Example:
        >>> full, masked = torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.zeros(2, 2)
        >>> judged_drop(full, masked, torch.tensor([0, 0]))
        tensor([31.6060,     nan])
    """
    p, o = (
        probabilities(logits, activation).gather(1, classes[:, None])[:, 0]
        for logits in (full, masked)
    )
    agrees = are_predicted(full, classes, activation)
    return average_drop(p, o).masked_fill(~agrees, torch.nan)


def _metrics(options: Mapping[str, Any]) -> dict[str, Metric]:
    return {
        metric_name("transfer_ad", share, matched=True): Metric(
            f"transfer AD {100 * share:g} %, area-matched", higher_is_better=False, unit="%"
        )
        for share in options["shares"]
    }


@register(
    name="transfer",
    title="Transfer to another classifier",
    paper="ours: area-matched average drop, judged by another architecture",
    needs=("judge",),
    metrics=_metrics,
    options={"shares": DEFAULT_SHARES, "fill": "black"},
    passes=lambda options: 1 + len(options["shares"]),
)
def transfer(case: Case, shares: Sequence[float] = DEFAULT_SHARES, fill: str = "black") -> Scores:
    """Mask each image as ``ad_..._matched`` does and let another classifier judge what is left.

    A mask that works only on the classifier it was made for is adversarial: the judge's confidence
    drops. The score is the average drop of the judge's probability of the *explained* class. Only
    images count whose full view the judge puts into that class too: elsewhere its drop says
    nothing. These images are the same for every method. The judge chooses among the classes that
    both know (:func:`judged_classes`). The passes are the judge's.

    Args:
        case: Photos, masks and the judge. The judge sees the explained classifier's view of the
            photo, resized to its own input size.
        shares: Shares of the pixels that stay, most important first, in (0, 1].
        fill: What masked pixels become, one of :data:`ttame.metrics.fills.FILLS`. ``"mean"`` is
            the mean colour of the explained classifier.

    Returns:
        ``transfer_ad_100_matched``, ... in percent; NaN where the judge disagrees or does not know
        the class.

    Raises:
        InputError: There is no judge, or it does not know the classes.
        UnknownNameError: The fill is unknown.
    """
    judge = case.judge
    if judge is None:
        raise InputError("the transfer score needs another classifier as judge, got none")
    columns = judge_columns(case.backbone, judge)
    known = {place: column for place, column in enumerate(columns) if column is not None}

    def judged(pixels: Tensor) -> Tensor:
        logits = case.logits(resized_pixels(pixels, judge.preprocessing.crop), judge)
        found = logits.new_full((len(logits), len(columns)), -torch.inf)
        found[:, list(known)] = logits[:, list(known.values())]
        return found

    full = judged(case.pixels)
    masks = cut_to_shares(area_matched(case.masks, case.seeds), shares)
    beneath = fill_photos(case, fill)
    values = {}
    for share, mask in zip(shares, masks.unbind(dim=1), strict=True):
        masked = judged(apply_mask(case.pixels, mask[:, None], beneath))
        name = metric_name("transfer_ad", share, matched=True)
        values[name] = judged_drop(full, masked, case.classes, judge.activation)
    return Scores(values)
