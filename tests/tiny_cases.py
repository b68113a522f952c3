"""Cases for measures: the tiny classifier, smooth seeded photos and maps."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from tiny_backbone import tiny_backbone
from ttame.metrics.case import Case
from ttame.metrics.shares import image_seeds
from ttame.normalisation import full_masks


def seeded_map(backbone: Any, images: Tensor, classes: Tensor) -> Tensor:
    """Return maps that depend on image and class: a method for cases."""
    pooled = F.adaptive_avg_pool2d(images.mean(dim=1), 7)
    return torch.sin(pooled[:, None] * (2 + classes[..., None, None]))


def minmax_masks(maps: Tensor, pixels: Tensor) -> Tensor:
    """Make masks as most methods do."""
    return full_masks(maps, (pixels.shape[-2], pixels.shape[-1]))


def given_masks(maps: Tensor, pixels: Tensor) -> Tensor:
    """Take maps for the masks they are, as a case of an explainer does."""
    return full_masks(maps, (pixels.shape[-2], pixels.shape[-1]), "as_given")


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
    if maps is None:
        maps = method(backbone, normalised, classes[:, None])[:, 0]
    fields = {
        "backbone": backbone,
        "pixels": pixels,
        "classes": classes,
        "p": p,
        "maps": maps,
        "masks": full_masks(maps, size),
        "to_masks": minmax_masks,
        "seeds": tuple(image_seeds(seed, list(range(images))[only])),
    }
    return Case(**{**fields, **values})
