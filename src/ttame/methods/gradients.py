"""Gradients of a class logit to the pixels, by the package captum.

Pixels are those of the classifier's own, normalised input, and maps keep its resolution.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ttame.masking import make_fill
from ttame.methods.batches import images_at_once
from ttame.methods.captum_package import attributions
from ttame.methods.registry import register

if TYPE_CHECKING:
    from torch import Tensor

    from ttame.backbone.contract import Backbone

_COMMON: dict[str, Any] = {"needs": ("gradients",), "packages": ("captum",)}


@register(
    name="saliency",
    title="Saliency",
    paper="Simonyan et al., ICLR 2014 workshop, arXiv 1312.6034",
    cost="1 forward, 1 backward",
    **_COMMON,
)
def saliency(backbone: Backbone, images: Tensor, classes: Tensor) -> Tensor:
    """Take the largest absolute gradient over the colours: ``max_c |dy/dx_c|``.

    Args:
        backbone: Any classifier; left exactly as it was.
        images: Its normalised input, (B, C, H, W).
        classes: (B, n) class indices.

    Returns:
        (B, n, H, W), not negative.

    Raises:
        InputError: The package is missing.
    """
    return attributions("Saliency", backbone, images, classes).amax(dim=2)


@register(
    name="input_x_gradient",
    title="Input x gradient",
    paper="Shrikumar et al., arXiv 1605.01713",
    cost="1 forward, 1 backward",
    **_COMMON,
)
def input_x_gradient(backbone: Backbone, images: Tensor, classes: Tensor) -> Tensor:
    """Multiply the gradient with the normalised input: ``sum_c |x_c * dy/dx_c|``.

    Pixels of the mean colour, which are 0, get no attribution. Arguments, returns and errors are
    those of :func:`saliency`.
    """
    return attributions("InputXGradient", backbone, images, classes).abs().sum(dim=2)


@register(
    name="integrated_gradients",
    title="Integrated gradients",
    paper="Sundararajan et al., ICML 2017, arXiv 1703.01365",
    cost="32 forward, 32 backward",
    options={"steps": 32, "baseline": "black"},
    slow=True,
    **_COMMON,
)
def integrated_gradients(
    backbone: Backbone,
    images: Tensor,
    classes: Tensor,
    steps: int = 32,
    baseline: str = "black",
) -> Tensor:
    """Integrate the gradient on the straight way from a baseline to the image.

    ``sum_c |(x_c - r_c) * integral_0^1 dy/dx_c(r + a (x - r)) da|``, by Gauss-Legendre quadrature.

    Args:
        backbone: Any classifier; left exactly as it was.
        images: Its normalised input, (B, C, H, W).
        classes: (B, n) class indices.
        steps: Points of the quadrature.
        baseline: r, one of the fills: ``"black"`` as in the paper, ``"mean"`` or ``"blur"``.

    Returns:
        (B, n, H, W), not negative.

    Raises:
        InputError: The package is missing.
        UnknownNameError: The baseline is unknown.
    """
    reference = make_fill(baseline, images, backbone.preprocessing).expand_as(images)
    signed = attributions(
        "IntegratedGradients",
        backbone,
        images,
        classes,
        baselines=reference,
        n_steps=steps,
        internal_batch_size=max(images_at_once(images.device), len(images)),
    )
    return signed.abs().sum(dim=2).float()
