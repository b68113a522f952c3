"""What stands where a measure takes pixels away."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from ttame.errors import unknown_name
from ttame.masking import gaussian_blur

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from ttame.metrics.case import Case


def blurred(pixels: Tensor) -> Tensor:
    """Blur photos (B, C, H, W) with a Gaussian of 11 x 11 pixels and sigma 5, edges repeated."""
    return gaussian_blur(pixels, sigma=5.0, reach=1)


def _mean_colour(case: Case) -> Tensor:
    mean = torch.tensor(case.backbone.preprocessing.mean).to(case.pixels)
    return mean.view(1, -1, 1, 1).expand_as(case.pixels)


def _photo_mean(case: Case) -> Tensor:
    return case.pixels.mean(dim=(2, 3), keepdim=True).expand_as(case.pixels)


FILLS: dict[str, Callable[[Case], Tensor]] = {
    "black": lambda case: torch.zeros_like(case.pixels),
    "mean": _mean_colour,
    "photo_mean": _photo_mean,
    "blur": lambda case: blurred(case.pixels),
}
"""Black, the classifier's mean colour, the photo's own mean colour, the blurred photo."""


def fill_photos(case: Case, fill: str) -> Tensor:
    """Return the photos with every pixel missing, (B, C, H, W) in [0, 1].

    ``"black"`` is the pixel mask space of the papers (a mask multiplies the [0, 1] image),
    ``"mean"`` the normalised one (it multiplies the normalised image).

    Raises:
        UnknownNameError: ``fill`` is not one of ``FILLS``.
    """
    if fill not in FILLS:
        raise unknown_name("fill", fill, FILLS)
    return FILLS[fill](case)
