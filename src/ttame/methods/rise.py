"""RISE: the mean of random masks, weighted by the probability that is left under them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from ttame.activation import probabilities
from ttame.errors import InputError
from ttame.masking import apply_mask, make_fill
from ttame.methods.batches import images_at_once
from ttame.methods.registry import register
from ttame.methods.seeding import photo_seeds

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ttame.backbone.contract import Backbone


@register(
    name="rise",
    title="RISE",
    paper="Petsiuk et al., BMVC 2018, arXiv 1806.07421",
    needs=("masks",),
    cost="500 masked passes",
    options={"masks": 500, "cells": 7, "keep": 0.5, "batch_size": None, "seed": 0},
    slow=True,
)
@torch.no_grad()
def rise(
    backbone: Backbone,
    images: Tensor,
    classes: Tensor,
    masks: int = 500,
    cells: int = 7,
    keep: float = 0.5,
    batch_size: int | None = None,
    seed: int = 0,
) -> Tensor:
    """Add up random masks, each times the probability of the class on the masked photo.

    ``S = 1 / (N keep) sum_i p(x * M_i) M_i``. Masks multiply the [0, 1] photo: what is removed is
    black. They are seeded with the photo's content, and all classes of an image share them and
    their passes.

    Args:
        backbone: Any classifier.
        images: Its normalised input, (B, C, H, W).
        classes: (B, n) class indices.
        masks: N, their number; the paper takes 4,000 for VGG-16 and 8,000 for ResNet-50.
        cells: Cells along each side of the coarse masks.
        keep: Share of the cells that is kept.
        batch_size: Masked photos per pass, which does not change the result; None suits the device.
        seed: Another one draws other masks.

    Returns:
        (B, n, H, W), at the image's resolution.

    Raises:
        InputError: There are no masks or no cells, or the share does not lie in (0, 1).
    """
    if masks < 1 or cells < 1 or not 0 < keep < 1:
        raise InputError(
            "expected masks and cells of at least 1 and a share to keep between 0 and 1, got "
            f"masks={masks}, cells={cells}, keep={keep}"
        )
    fills = make_fill("black", images, backbone.preprocessing).expand_as(images)
    seeds = photo_seeds(backbone, images, seed)
    at_once = images_at_once(images.device, batch_size)
    maps = []
    for image, black, own, chosen in zip(images, fills, seeds, classes, strict=True):
        total = image.new_zeros((len(chosen), *image.shape[1:]), dtype=torch.float32)
        size = (image.shape[1], image.shape[2])
        for part in random_masks(own, masks, cells, keep, size, at_once, image.device):
            kept = part.to(image)
            logits = backbone.logits(apply_mask(image, kept[:, None], black))
            p = probabilities(logits.float(), backbone.activation)[:, chosen]
            total += torch.einsum("mn,mhw->nhw", p, kept.float())
        maps.append(total / (masks * keep))
    return torch.stack(maps)


def random_masks(
    seed: int,
    masks: int,
    cells: int,
    keep: float,
    size: tuple[int, int],
    batch_size: int,
    device: torch.device | str = "cpu",
) -> Iterator[Tensor]:
    """Draw smooth random masks, to rounding the same for a seed on every device.

    Coarse masks of ``cells`` x ``cells``, each cell 1 with probability ``keep`` and else 0, are
    resized bilinearly to one cell more than the image has, and cut to ``size`` at a random place
    within the first cell.

    Yields:
        (at most batch_size, H, W) in [0, 1].
    """
    generator = torch.Generator().manual_seed(seed)
    coarse = (torch.rand(masks, 1, cells, cells, generator=generator) < keep).float().to(device)
    cell = [math.ceil(side / cells) for side in size]
    places = [torch.randint(0, side, (masks, 1), generator=generator).to(device) for side in cell]
    for part in torch.split(torch.arange(masks, device=device), batch_size):
        large = F.interpolate(
            coarse[part],
            size=[(cells + 1) * side for side in cell],
            mode="bilinear",
            align_corners=False,
        )[:, 0]
        rows, columns = (
            place[part] + torch.arange(side, device=device)
            for place, side in zip(places, size, strict=True)
        )
        which = torch.arange(len(part), device=device)[:, None, None]
        yield large[which, rows[:, :, None], columns[:, None, :]]
