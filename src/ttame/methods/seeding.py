"""Seeds for methods that draw: the same photo always gets the same map."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

import torch

from ttame.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

    from ttame.backbone.contract import Backbone


def content_seeds(
    backbone: Backbone, images: Tensor, classes: Tensor, seed: int = 0
) -> list[list[int]]:
    """Derive seeds from each photo's 8-bit content, the class and the method's own seed.

    They depend neither on the batch, nor on the photo's place in it, nor on the device.

    Args:
        backbone: Its preprocessing gives the photo back.
        images: (B, C, H, W), normalised.
        classes: (B, n) class indices.
        seed: Option of the method: another one gives other draws.

    Returns:
        B lists of n seeds.

    Raises:
        InputError: ``seed`` is negative.
    """
    check_seed(seed)
    pixels = backbone.preprocessing.denormalise(images.float()).mul(255).round().clamp(0, 255)
    contents = (zlib.crc32(photo.numpy().tobytes()) for photo in pixels.byte().cpu().contiguous())
    return [
        [_mixed(content * 1_000_003 + int(index), seed) for index in chosen]
        for content, chosen in zip(contents, classes.tolist(), strict=True)
    ]


def photo_seeds(backbone: Backbone, images: Tensor, seed: int = 0) -> list[int]:
    """Derive seeds from each photo's 8-bit content alone: all classes of a photo share its draws.

    Args:
        backbone: Its preprocessing gives the photo back.
        images: (B, C, H, W), normalised.
        seed: See :func:`content_seeds`.

    Returns:
        B seeds.
    """
    alone = images.new_zeros((len(images), 1), dtype=torch.int64)
    return [own for (own,) in content_seeds(backbone, images, alone, seed)]


def _mixed(own: int, seed: int) -> int:
    # By a checksum: generators on a CPU look at the lowest 32 bits alone.
    return zlib.crc32(f"{seed}/{own}".encode()) if seed else own


def check_seed(seed: int) -> None:
    """Refuse a seed that a generator would refuse at the end of a run.

    Raises:
        InputError: It is negative.
    """
    if seed < 0:
        raise InputError(f"expected a seed of at least 0, got {seed}")
