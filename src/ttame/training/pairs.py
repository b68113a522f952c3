"""Pictures of two photos in a training batch: a map must tell one class from another there."""

from __future__ import annotations

import torch
from torch import Tensor

from ttame.images.pairs import beside


def pair_up(images: Tensor, count: int) -> Tensor:
    """Put each of the first images of a batch beside the next one of the batch.

    Where it stands, left or right, above or below, is drawn from torch's generator.

    Args:
        images: (B, C, H, W), any range; the one after the last is the first.
        count: How many of them, at most B.

    Returns:
        (B, C, H, W); images from ``count`` on are as they were.

    Example:
        >>> images = torch.tensor([1.0, 2.0]).view(2, 1, 1, 1).expand(2, 1, 4, 4)
        >>> sorted(pair_up(images, 1)[0].unique().tolist())
        [1.0, 2.0]
    """
    if not count:
        return images
    others = images.roll(-1, dims=0)
    places = torch.randint(4, (count,)).tolist()
    pairs = [
        beside(*((images[i], others[i]) if place < 2 else (others[i], images[i])), -1 - place % 2)
        for i, place in enumerate(places)
    ]
    return torch.cat([torch.stack(pairs), images[count:]])
