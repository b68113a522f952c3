"""SRG of one image whose cells have different influences: cell by cell, one pass for each step."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor

from ttame.backbone.contract import Backbone


def slow_srg(
    backbone: Backbone,
    photo: Tensor,
    mask: Tensor,
    index: int,
    cell: int,
    steps: int,
    colour: Tensor | None = None,
) -> float:
    """SRG of photo (C, H, W) and mask (H, W) over square cells that divide the photo.

    Cells become a colour (C,), that of the photo's mean where none is given.
    """
    colour = photo.mean(dim=(1, 2)) if colour is None else colour
    height, width = mask.shape
    corners = [(y, x) for y in range(0, height, cell) for x in range(0, width, cell)]
    influence = {
        (y, x): float(mask[y : y + cell, x : x + cell].double().mean()) for y, x in corners
    }
    steps = min(steps, len(corners))
    areas = {}
    for most_first in (False, True):
        order = sorted(corners, key=influence.__getitem__, reverse=most_first)
        logits = []
        for step in range(steps + 1):
            occluded = photo.clone()
            for y, x in order[: round(step * len(order) / steps)]:
                occluded[:, y : y + cell, x : x + cell] = colour[:, None, None]
            with torch.no_grad():
                images = backbone.preprocessing.normalise(occluded[None])
                logits.append(float(backbone.logits(images)[0, index]))
        areas[most_first] = sum((a + b) / 2 for a, b in pairwise(logits))
    return (areas[False] - areas[True]) / steps
