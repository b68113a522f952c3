"""Seeds for methods that draw: the same photo always gets the same map."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

    from ttame.backbone.contract import Backbone


def content_seeds(backbone: Backbone, images: Tensor, classes: Tensor) -> list[list[int]]:
    """Derive seeds from each photo's 8-bit content and the class.

    They depend neither on the batch, nor on the photo's place in it, nor on the device.

    Args:
        backbone: Its preprocessing gives the photo back.
        images: (B, C, H, W), normalised.
        classes: (B, n) class indices.

    Returns:
        B lists of n seeds.
    """
    pixels = backbone.preprocessing.denormalise(images.float()).mul(255).round().clamp(0, 255)
    contents = (zlib.crc32(photo.numpy().tobytes()) for photo in pixels.byte().cpu().contiguous())
    return [
        [content * 1_000_003 + int(index) for index in chosen]
        for content, chosen in zip(contents, classes.tolist(), strict=True)
    ]


def photo_seeds(backbone: Backbone, images: Tensor) -> list[int]:
    """Derive seeds from each photo's 8-bit content alone: all classes of a photo share its draws.

    Args:
        backbone: Its preprocessing gives the photo back.
        images: (B, C, H, W), normalised.

    Returns:
        B seeds.
    """
    alone = images.new_zeros((len(images), 1), dtype=torch.int64)
    return [seed for (seed,) in content_seeds(backbone, images, alone)]
