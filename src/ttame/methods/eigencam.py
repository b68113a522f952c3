"""Eigen-CAM: the first principal component of a feature map."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ttame.methods.cam_layer import gradient_layer, layer_details
from ttame.methods.registry import register

if TYPE_CHECKING:
    from ttame.backbone.contract import Backbone


@register(
    name="eigencam",
    title="Eigen-CAM",
    paper="Muhammad and Yeasin, IJCNN 2020, arXiv 2008.00299",
    needs=("layer",),
    cost="1 forward",
    details=layer_details,
)
@torch.no_grad()
def eigencam(backbone: Backbone, images: Tensor, classes: Tensor) -> Tensor:
    """Project a feature map on its first principal component.

    ``ReLU(F v)`` with F (h w, C) centred per channel and v its first right singular vector. The map
    does not depend on the class: all classes of an image get the same one. The sign of v is
    arbitrary and may differ between linear algebra libraries; a published rule fixes it, see
    :func:`strongest_side_up`. (The package grad-cam leaves it open, and computes all C singular
    vectors on the CPU, which takes longer than the classifier.)

    Args:
        backbone: From :func:`ttame.load_backbone`.
        images: Its normalised input, (B, C, H, W).
        classes: (B, n) class indices; only their number counts.

    Returns:
        (B, n, h, w) at the layer's resolution, not negative.

    Raises:
        BackboneError: The backbone does not name its layers, or none has a gradient.
    """
    reader = backbone.with_class_token_product(False).with_layers((gradient_layer(backbone),))
    (feature,) = reader(images).features
    values = feature.float().flatten(2).mT
    values = values - values.mean(dim=1, keepdim=True)
    _, _, right = torch.linalg.svd(values, full_matrices=False)
    projections = (values @ right[:, 0, :, None]).view(len(images), *feature.shape[2:])
    maps = strongest_side_up(projections).relu()
    return maps[:, None].expand(*classes.shape, -1, -1)


def strongest_side_up(projections: Tensor) -> Tensor:
    """Flip every map (B, h, w) whose lowest value is farther from 0 than its highest.

    Source: Chung and Ying, Seg-Eigen-CAM, Appl. Sci. 2025, 15(13), 7562, equation 13.

    Example:
        >>> strongest_side_up(torch.tensor([[[-3.0, 1.0]], [[2.0, -1.0]]]))
        tensor([[[ 3., -1.]],
                [[ 2., -1.]]])
    """
    low, high = projections.amin(dim=(1, 2)), projections.amax(dim=(1, 2))
    return torch.where((-low > high)[:, None, None], -projections, projections)
