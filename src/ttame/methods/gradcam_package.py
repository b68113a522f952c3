"""The CAM family of the package grad-cam on any backbone, without touching its classifier."""

from __future__ import annotations

import importlib
import threading
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ttame.backbone.outputs import first_tensor
from ttame.errors import InputError
from ttame.methods.cam_layer import gradient_layer

if TYPE_CHECKING:
    from collections.abc import Callable

    from ttame.backbone.contract import Backbone


class Tapped(nn.Module):
    """The classifier as the package wants it: returns logits, and shows one layer's tensor.

    The classifier is deliberately no sub-module: the package sets modes and gradients of what it is
    given, and hooks the tap instead of the classifier.

    Args:
        backbone: The classifier.
        layer: Name of the layer that is shown.

    Attributes:
        tap: The module that the package takes for the layer.
    """

    def __init__(self, backbone: Backbone, layer: str) -> None:
        super().__init__()
        self.tap = nn.Identity()
        weight = next(backbone.parameters(), torch.zeros(0))
        self.anchor = nn.Parameter(torch.zeros(0, device=weight.device))
        object.__setattr__(self, "backbone", backbone)
        self.layer = layer

    def forward(self, images: Tensor) -> Tensor:
        """Classify images (B, C, H, W) and show the layer's output; returns logits (B, K)."""
        backbone: Backbone = self.backbone  # type: ignore[assignment]
        owner = threading.get_ident()

        def show(_module: nn.Module, _inputs: Any, output: Any) -> None:
            # Hooks see the calls of every thread that shares the classifier.
            if threading.get_ident() == owner:
                self.tap(first_tensor(output))

        handle = backbone.module.get_submodule(self.layer).register_forward_hook(show)
        try:
            return backbone.logits(images)
        finally:
            handle.remove()


def package_class(name: str) -> type[Any]:
    """Return a class of the package, which leaves its maps as they are computed.

    They stay at the layer's own size and are not stretched: every method's maps become masks in the
    same way. Negative values are 0, as in the papers.

    Raises:
        InputError: The package is missing.
    """
    try:
        base: type[Any] = getattr(importlib.import_module("pytorch_grad_cam"), name)
    except ImportError as error:
        raise InputError(
            f"{name} needs the package grad-cam ({error}); install it with: pip install grad-cam"
        ) from error

    class Plain(base):  # type: ignore[misc]
        def compute_cam_per_layer(
            self, input_tensor: Tensor, targets: Any, eigen_smooth: bool
        ) -> Any:
            """Return the one layer's maps (B, h, w)."""
            (activations,), (gradients,) = (
                [tensor.cpu().numpy() for tensor in tensors]
                for tensors in (
                    self.activations_and_grads.activations,
                    self.activations_and_grads.gradients,
                )
            )
            layer = self.target_layers[0]
            maps = self.get_cam_image(
                input_tensor, layer, targets, activations, gradients, eigen_smooth
            )
            return maps.clip(min=0)

        def aggregate_multi_layers(self, maps: Any) -> Any:
            """Return them as they are: there is one layer."""
            return maps

    return Plain


def package_maps(cam: type[Any], backbone: Backbone, images: Tensor, classes: Tensor) -> Tensor:
    """Explain images with a class of the package, at the layer :func:`gradient_layer` finds.

    Args:
        cam: From :func:`package_class`.
        backbone: From :func:`ttame.load_backbone`; left exactly as it was.
        images: Its normalised input, (B, C, H, W).
        classes: (B, n) class indices.

    Returns:
        (B, n, h, w) float32 at the layer's resolution; negative values are 0.

    Raises:
        BackboneError: The backbone does not name its layers, or none has a gradient.
    """
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    # Tensors made under inference mode cannot take part in a backward pass; their copies can.
    with torch.inference_mode(False), torch.enable_grad():
        images = images.detach().clone()
        layer = gradient_layer(backbone)
        tapped = Tapped(backbone, layer)
        converter = _converter(backbone, layer, images)
        images.requires_grad_()
        columns = []
        for column in classes.T.tolist():
            targets = [ClassifierOutputTarget(index) for index in column]
            # Not as a context: leaving one swallows index errors, and the tap is ours anyway.
            maps = cam(tapped, [tapped.tap], converter)(images, targets)
            columns.append(torch.from_numpy(maps).float())
    return torch.stack(columns, dim=1).to(images.device)


def _converter(backbone: Backbone, layer: str, images: Tensor) -> Callable[[Tensor], Tensor]:
    size = (images.shape[2], images.shape[3])
    # A copy, because an in-place operation may follow the layer.
    return lambda output: backbone.to_map(layer, output, size).clone()
