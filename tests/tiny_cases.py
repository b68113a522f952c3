"""Cases for measures: the tiny classifier, smooth seeded photos and maps."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from tiny_backbone import tiny_backbone
from ttame.methods.registry import Method
from ttame.metrics.case import Case
from ttame.metrics.shares import image_seeds


def seeded_map(backbone: Any, images: Tensor, classes: Tensor) -> Tensor:
    """Return maps that depend on image and class: a method for cases."""
    pooled = F.adaptive_avg_pool2d(images.mean(dim=1), 7)
    return torch.sin(pooled[:, None] * (2 + classes[..., None, None]))


SEEDED = Method("seeded", "Seeded", seeded_map)


def make_case(
    images: int = 4,
    size: tuple[int, int] = (32, 32),
    seed: int = 0,
    only: slice = slice(None),
    maps: Tensor | None = None,
    **values: Any,
) -> Case:
    """Return a case of ``images`` photos, or of those in ``only``; ``values`` override fields."""
    backbone = tiny_backbone()
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(images, 3, 5, 5, generator=generator)
    pixels = F.interpolate(coarse, size=size, mode="bilinear")[only]
    normalised = backbone.preprocessing.normalise(pixels)
    with torch.no_grad():
        p, classes = backbone.logits(normalised).double().softmax(dim=1).max(dim=1)
    method = values.setdefault("explain", seeded_map)
    to_masks = values.setdefault("to_masks", SEEDED.to_masks)
    if maps is None:
        maps = method(backbone, normalised, classes[:, None])[:, 0]
    fields = {
        "backbone": backbone,
        "pixels": pixels,
        "classes": classes,
        "p": p,
        "maps": maps,
        "masks": to_masks(maps, pixels),
        "seeds": tuple(image_seeds(seed, list(range(images))[only])),
    }
    return Case(**{**fields, **values})
