"""Grad-CAM and its relatives, which weight a feature map with the gradient of a class logit.

All by the package grad-cam, at the same layer, see :func:`ttame.methods.cam_layer.gradient_layer`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ttame.methods.cam_layer import layer_details
from ttame.methods.gradcam_package import package_class, package_maps
from ttame.methods.registry import register

if TYPE_CHECKING:
    from torch import Tensor

    from ttame.backbone.contract import Backbone

_COMMON: dict[str, Any] = {
    "needs": ("gradients", "layer"),
    "cost": "1 forward, 1 backward",
    "packages": ("pytorch_grad_cam",),
    "details": layer_details,
}


@register(
    name="gradcam",
    title="Grad-CAM",
    paper="Selvaraju et al., ICCV 2017, arXiv 1610.02391",
    **_COMMON,
)
def gradcam(backbone: Backbone, images: Tensor, classes: Tensor) -> Tensor:
    """Weight the channels of a feature map by the mean gradient of a class logit, and add them up.

    ``ReLU(sum_c mean_hw(d logit / d F_c) * F_c)``, one backward pass per class.

    Args:
        backbone: From :func:`ttame.load_backbone`; left exactly as it was.
        images: Its normalised input, (B, C, H, W).
        classes: (B, n) class indices.

    Returns:
        (B, n, h, w) at the layer's resolution; negative values are 0.

    Raises:
        InputError: The package is missing.
        BackboneError: The backbone does not name its layers, or none has a gradient.
    """
    return package_maps(package_class("GradCAM"), backbone, images, classes)


@register(
    name="gradcampp",
    title="Grad-CAM++",
    paper="Chattopadhay et al., WACV 2018, arXiv 1710.11063",
    **_COMMON,
)
def gradcampp(backbone: Backbone, images: Tensor, classes: Tensor) -> Tensor:
    """Weight the channels by the sum of positive gradients, each weighted in turn.

    ``ReLU(sum_c w_c * F_c)``, ``w_c = sum_hw a_c * ReLU(g_c)`` with the gradient g and
    ``a_c = g_c^2 / (2 g_c^2 + sum_hw(F_c) * g_c^3 + 1e-6)``: second and third derivatives of the
    exponential of the logit. The constant, the package's, counts where gradients are small.

    Args, returns and errors are those of :func:`gradcam`.
    """
    return package_maps(package_class("GradCAMPlusPlus"), backbone, images, classes)


@register(name="xgradcam", title="XGrad-CAM", paper="Fu et al., BMVC 2020", **_COMMON)
def xgradcam(backbone: Backbone, images: Tensor, classes: Tensor) -> Tensor:
    """Weight the channels by the mean gradient, weighted by where the channel is active.

    ``ReLU(sum_c w_c * F_c)``, ``w_c = sum_hw(g_c * F_c) / (sum_hw F_c + 1e-7)``. Made for feature
    maps behind a ReLU: where activations of both signs sum to almost 0, as in transformers, the
    weights become large and arbitrary.

    Args, returns and errors are those of :func:`gradcam`.
    """
    return package_maps(package_class("XGradCAM"), backbone, images, classes)


@register(
    name="hirescam", title="HiRes-CAM", paper="Draelos and Carin, arXiv 2011.08891", **_COMMON
)
def hirescam(backbone: Backbone, images: Tensor, classes: Tensor) -> Tensor:
    """Multiply gradient and activation value by value: ``ReLU(sum_c g_c * F_c)``.

    Where a linear layer follows the mean over places, it equals Grad-CAM.

    Args, returns and errors are those of :func:`gradcam`.
    """
    return package_maps(package_class("HiResCAM"), backbone, images, classes)


@register(
    name="layercam",
    title="Layer-CAM",
    paper="Jiang et al., IEEE TIP 2021, doi 10.1109/TIP.2021.3089943",
    **_COMMON,
)
def layercam(backbone: Backbone, images: Tensor, classes: Tensor) -> Tensor:
    """Multiply positive gradient and activation value by value: ``ReLU(sum_c ReLU(g_c) * F_c)``.

    Args, returns and errors are those of :func:`gradcam`.
    """
    return package_maps(package_class("LayerCAM"), backbone, images, classes)
