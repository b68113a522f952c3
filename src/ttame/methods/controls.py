"""Maps that explain nothing: what a score of a real method has to be read against."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from ttame.detail import edge_strength
from ttame.methods.registry import register
from ttame.methods.seeding import content_seeds
from ttame.normalisation import AS_GIVEN

if TYPE_CHECKING:
    from torch import Tensor

    from ttame.backbone.contract import Backbone

_CELLS = 7
_SPREAD = 0.25


@register(name="random", title="Random", control=True, options={"seed": 0})
def random_map(backbone: Backbone, images: Tensor, classes: Tensor, seed: int = 0) -> Tensor:
    """Draw uniform noise of 7 x 7 cells, as coarse as the maps of usual classifiers.

    The noise is seeded with the photo's 8-bit content, the class and ``seed``: the same photo
    always gets the same map, whatever its batch, its place in it or the device.

    Returns:
        (B, n, 7, 7) in [0, 1).
    """
    return torch.stack(
        [
            torch.stack([torch.rand(_CELLS, _CELLS, generator=_generator(own)) for own in row])
            for row in content_seeds(backbone, images, classes, seed)
        ]
    ).to(images.device)


@register(name="all_ones", title="All ones", control=True, normalisation=AS_GIVEN)
def all_ones(backbone: Backbone, images: Tensor, classes: Tensor) -> Tensor:  # noqa: ARG001
    """Keep the whole image: AD = IC = AG = 0 at a mean mask area of 1.

    Under the quantile rule a constant mask loses nothing at any share; area-matched it becomes
    noise of single pixels.

    Returns:
        (B, n, H, W) ones at the image's resolution, a mask that is not stretched again.
    """
    # At full size, because resizing a single 1 bilinearly gives 0.99999994.
    return images.new_ones(()).expand(*classes.shape, *images.shape[-2:])


@register(name="centre_gaussian", title="Centre Gaussian", control=True)
def centre_gaussian(backbone: Backbone, images: Tensor, classes: Tensor) -> Tensor:  # noqa: ARG001
    """Look at the middle of every image: a Gaussian with sigma a quarter of each side.

    Returns:
        (B, n, H, W) in (0, 1], at the image's resolution.
    """
    # On the CPU: other rounding would break the ties of its four equal corners another way.
    rows, columns = (_bell(side) for side in images.shape[-2:])
    return torch.outer(rows, columns).to(images.device).expand(*classes.shape, -1, -1)


@register(name="edge_map", title="Edge map", control=True)
def edge_map(backbone: Backbone, images: Tensor, classes: Tensor) -> Tensor:
    """Show the photo's edges, which no classifier was asked about.

    See :func:`ttame.detail.edge_strength`.

    Returns:
        (B, n, H, W), at the image's resolution, not negative.
    """
    strength = edge_strength(backbone.preprocessing.denormalise(images.float()))
    return strength.expand(*classes.shape, -1, -1)


def _bell(side: int) -> Tensor:
    places = (torch.arange(side) + 0.5) / side - 0.5
    return torch.exp(-(places**2) / (2 * _SPREAD**2))


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)
