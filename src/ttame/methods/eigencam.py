"""Eigen-CAM: the first principal component of a feature map."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ttame.methods.cam_layer import layer_details
from ttame.methods.gradcam_package import package_class, package_maps
from ttame.methods.registry import register

if TYPE_CHECKING:
    from torch import Tensor

    from ttame.backbone.contract import Backbone

Projection = npt.NDArray[np.float32]


@register(
    name="eigencam",
    title="Eigen-CAM",
    paper="Muhammad and Yeasin, IJCNN 2020, arXiv 2008.00299",
    needs=("layer",),
    cost="1 forward",
    packages=("pytorch_grad_cam",),
    details=layer_details,
)
def eigencam(backbone: Backbone, images: Tensor, classes: Tensor) -> Tensor:
    """Project a feature map on its first principal component, by the package grad-cam.

    ``ReLU(F v)`` with F (h w, C) centred per channel and v its first right singular vector. The map
    does not depend on the class: all classes of an image get the same one. The sign of v is
    arbitrary and may differ between linear algebra libraries; the published rule fixes it, see
    :func:`strongest_side_up`.

    Args:
        backbone: From :func:`ttame.load_backbone`; left exactly as it was.
        images: Its normalised input, (B, C, H, W).
        classes: (B, n) class indices; only their number counts.

    Returns:
        (B, n, h, w) at the layer's resolution, each min-max normalised to [0, 1] by the package.

    Raises:
        InputError: The package is missing, or the backbone does not name its layers.
        BackboneError: No layer has a gradient.
    """
    base: Any = package_class("EigenCAM")

    class Signed(base):  # type: ignore[misc]
        def get_cam_image(self, *args: Any, **kwargs: Any) -> Projection:
            """Return projections (B, h, w) with their sign fixed."""
            return strongest_side_up(super().get_cam_image(*args, **kwargs))

    maps = package_maps(Signed, backbone, images, classes[:, :1])
    return maps.expand(*classes.shape, -1, -1)


def strongest_side_up(projections: Projection) -> Projection:
    """Flip every map (B, h, w) whose lowest value is farther from 0 than its highest.

    Source: Chung and Ying, Seg-Eigen-CAM, Appl. Sci. 2025, 15(13), 7562, equation 13.

    Example:
        >>> strongest_side_up(np.float32([[[-3, 1]], [[2, -1]]])).tolist()
        [[[3.0, -1.0]], [[2.0, -1.0]]]
    """
    down = -projections.min(axis=(1, 2)) > projections.max(axis=(1, 2))
    signed: Projection = np.where(down[:, None, None], -projections, projections)
    return signed
