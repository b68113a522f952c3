"""Occlusion: what a grey square hides when it is slid over the image."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ttame.activation import probabilities
from ttame.errors import InputError
from ttame.masking import apply_mask, make_fill
from ttame.methods.batches import images_at_once
from ttame.methods.registry import register

if TYPE_CHECKING:
    from ttame.backbone.contract import Backbone


@register(
    name="occlusion",
    title="Occlusion",
    paper="Zeiler and Fergus, ECCV 2014, arXiv 1311.2901",
    needs=("masks",),
    cost="169 masked passes",
    options={"window": 1 / 7, "stride": 1 / 14, "fill": "mean", "batch_size": None},
    slow=True,
)
@torch.no_grad()
def occlusion(
    backbone: Backbone,
    images: Tensor,
    classes: Tensor,
    window: float = 1 / 7,
    stride: float = 1 / 14,
    fill: str = "mean",
    batch_size: int | None = None,
) -> Tensor:
    """Cover one place after the other and see how much of the class's probability is lost.

    Every pixel gets the mean of ``p(x) - p(x with a window covered)`` over the windows that cover
    it; a negative value hides the class. All classes of an image share the passes.

    Args:
        backbone: Any classifier.
        images: Its normalised input, (B, C, H, W).
        classes: (B, n) class indices.
        window: Sides of the window as shares of the image's sides.
        stride: Steps of the window as shares of the image's sides, not larger than the window.
        fill: What covers the window; ``"mean"`` is the grey of the paper.
        batch_size: Covered images per pass, which changes no result; None suits the device.

    Returns:
        (B, n, H, W), at the image's resolution, signed.

    Raises:
        InputError: The shares do not fulfil 0 < stride <= window <= 1.
    """
    if not 0 < stride <= window <= 1:
        raise InputError(
            "expected shares 0 < stride <= window <= 1, so that every pixel is covered, got "
            f"window={window}, stride={stride}"
        )
    height, width = images.shape[-2:]
    rows = slots(height, window, stride).to(images)
    columns = slots(width, window, stride).to(images)
    grid = torch.cartesian_prod(torch.arange(len(rows)), torch.arange(len(columns)))
    covered_times = torch.outer(rows.sum(dim=0), columns.sum(dim=0)).float()
    fills = make_fill(fill, images, backbone.preprocessing).expand_as(images)
    at_once = images_at_once(images.device, batch_size)
    maps = []
    for image, cover, chosen in zip(images, fills, classes, strict=True):
        logits = backbone.logits(image[None]).float()
        before = probabilities(logits, backbone.activation)[:, chosen]
        total = torch.zeros(len(chosen), height, width, device=image.device)
        for part in torch.split(grid, at_once):
            covered = rows[part[:, 0], :, None] * columns[part[:, 1], None, :]
            logits = backbone.logits(apply_mask(image, 1 - covered[:, None], cover)).float()
            lost = before - probabilities(logits, backbone.activation)[:, chosen]
            total += torch.einsum("mn,mhw->nhw", lost, covered.float())
        maps.append(total / covered_times)
    return torch.stack(maps)


def slots(side: int, window: float, stride: float) -> Tensor:
    """Return the places of a window along one side, (places, side), 1 where it covers.

    Places follow each other by the stride, in whole pixels, until the end is covered; the last
    window may reach beyond it.

    Example:
        >>> slots(5, 0.4, 0.4)
        tensor([[1., 1., 0., 0., 0.],
                [0., 0., 1., 1., 0.],
                [0., 0., 0., 0., 1.]])
    """
    length = max(1, round(side * window))
    step = min(length, max(1, round(side * stride)))
    starts = torch.arange(0, side - length + step, step)[:, None]
    pixels = torch.arange(side)
    return ((pixels >= starts) & (pixels < starts + length)).float()
