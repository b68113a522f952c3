"""SmoothGrad: the gradient, averaged over noisy copies of the image."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ttame.errors import InputError
from ttame.methods.input_gradients import input_gradients
from ttame.methods.registry import register
from ttame.methods.seeding import photo_seeds

if TYPE_CHECKING:
    from ttame.backbone.contract import Backbone


@register(
    name="smoothgrad",
    title="SmoothGrad",
    paper="Smilkov et al., arXiv 1706.03825",
    needs=("gradients",),
    cost="16 forward, 16 backward",
    options={"draws": 16, "noise": 0.15, "seed": 0},
)
def smoothgrad(
    backbone: Backbone,
    images: Tensor,
    classes: Tensor,
    draws: int = 16,
    noise: float = 0.15,
    seed: int = 0,
) -> Tensor:
    """Average the signed gradient over noisy images, then add up the colours.

    ``sum_c |mean_i dy/dx_c(x + s e_i)|``, e_i standard normal, ``s = noise * (max x - min x)`` of
    each normalised image. The noise is seeded with the photo's content (captum's noise tunnel has
    one seed for the whole batch), and all classes of an image share it and its forward passes.

    Args:
        backbone: Any classifier; left exactly as it was.
        images: Its normalised input, (B, C, H, W).
        classes: (B, n) class indices.
        draws: Noisy copies of every image.
        noise: Standard deviation as a share of the image's range; the paper finds 0.1 to 0.2 best.
        seed: Another one draws other noise.

    Returns:
        (B, n, H, W), not negative.

    Raises:
        InputError: There are no draws, or the noise is negative.
    """
    if draws < 1 or noise < 0:
        raise InputError(
            f"expected at least 1 draw and noise of at least 0, got draws={draws}, noise={noise}"
        )
    seeds = photo_seeds(backbone, images, seed)
    generators = [torch.Generator().manual_seed(own) for own in seeds]
    flat = images.flatten(1)
    scale = noise * (flat.amax(dim=1) - flat.amin(dim=1)).view(-1, 1, 1, 1)
    total = images.new_zeros((*classes.shape, *images.shape[1:]))
    for _ in range(draws):
        draw = torch.stack([torch.randn(images.shape[1:], generator=g) for g in generators])
        total += input_gradients(backbone, images + scale * draw.to(images), classes)
    return (total / draws).abs().sum(dim=2)
