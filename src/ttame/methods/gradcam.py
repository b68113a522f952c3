"""Grad-CAM on the backbone's last feature map, by the package grad-cam."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from ttame.backbone.module import ModuleBackbone
from ttame.backbone.outputs import first_tensor
from ttame.errors import BackboneError, InputError
from ttame.methods.registry import register

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ttame.backbone.contract import Backbone

_LAYERS: WeakKeyDictionary[Backbone, str] = WeakKeyDictionary()


def _details(backbone: Backbone) -> Mapping[str, Any]:
    return {"layer": _LAYERS.get(backbone)}


@register(
    name="gradcam",
    title="Grad-CAM",
    paper="Selvaraju et al., ICCV 2017, arXiv 1610.02391",
    needs=("gradients", "layer"),
    packages=("pytorch_grad_cam",),
    details=_details,
)
def gradcam(backbone: Backbone, images: Tensor, classes: Tensor) -> Tensor:
    """Weight the channels of a feature map by the mean gradient of a class logit, and add them up.

    ``ReLU(sum_c mean_hw(d logit / d F_c) * F_c)``, one backward pass per class. The layer is
    found at the first call by :func:`gradient_layer`.

    Args:
        backbone: From :func:`ttame.load_backbone`; left exactly as it was.
        images: Its normalised input, (B, C, H, W).
        classes: (B, n) class indices.

    Returns:
        (B, n, h, w) at the layer's resolution, each min-max normalised to [0, 1] by the package.

    Raises:
        InputError: The package is missing, or the backbone does not name its layers.
        BackboneError: No layer has a gradient.
    """
    try:
        from pytorch_grad_cam import GradCAM
        from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
    except ImportError as error:
        raise InputError(
            f"Grad-CAM needs the package grad-cam ({error}); install it with: pip install grad-cam"
        ) from error

    class UnresizedGradCAM(GradCAM):  # type: ignore[misc]
        def get_target_width_height(self, input_tensor: Tensor) -> None:
            """Keep the map's own size: every method is resized to the image in the same way."""

    # Tensors made under inference mode cannot take part in a backward pass; their copies can.
    with torch.inference_mode(False), torch.enable_grad():
        images = images.detach().clone()
        layer = gradient_layer(backbone, images[:1], classes[:1].clone())
        tapped = _Tapped(_named(backbone), layer)
        converter = _converter(_named(backbone), layer, images)
        images.requires_grad_()
        columns = []
        for column in classes.T.tolist():
            targets = [ClassifierOutputTarget(index) for index in column]
            # Not as a context: leaving one swallows index errors, and the tap is ours anyway.
            cam = UnresizedGradCAM(tapped, [tapped.tap], converter)
            columns.append(torch.from_numpy(cam(images, targets)))
    return torch.stack(columns, dim=1).to(images.device)


def gradient_layer(backbone: Backbone, images: Tensor, classes: Tensor) -> str:
    """Find the layer for Grad-CAM by looking at gradients, once per backbone.

    The backbone's last layer, unless the gradient to its map is zero everywhere: behind the last
    attention block of a vision transformer only the class token counts. Then it is the deepest
    candidate layer with a map of the same shape that has a gradient.

    Args:
        backbone: From :func:`ttame.load_backbone`.
        images: A few images that gradients may be taken for, (B, C, H, W).
        classes: (B, n) class indices; the first of each image is looked at.

    Returns:
        The layer's name.

    Raises:
        InputError: The backbone does not name its layers.
        BackboneError: No such layer has a gradient.
    """
    if backbone not in _LAYERS:
        module = _named(backbone)
        with_gradient = _layers_with_gradient(module, images, classes[:, 0])
        last = module.layers[-1]
        shapes = dict(module.candidate_layers())
        # What lies inside the attention of a block (queries, keys, values) has the same shape, but
        # does not show what the block reads: stay within one level below the backbone's layers.
        deepest = 1 + max(name.count(".") for name in module.layers)
        choices = [
            name
            for name in with_gradient
            if name == last or (shapes[name] == shapes[last] and name.count(".") <= deepest)
        ]
        if not choices:
            raise BackboneError(
                f"Grad-CAM finds no gradient at the map of layer {last!r} or any layer like it; "
                "choose other layers of the classifier"
            )
        _LAYERS[backbone] = last if last in choices else choices[-1]
    return _LAYERS[backbone]


class _Tapped(nn.Module):
    """The classifier as the package wants it: returns logits, and shows one layer's tensor.

    The classifier is deliberately no sub-module: the package sets modes and gradients of what it is
    given, and hooks the tap instead of the classifier.
    """

    def __init__(self, backbone: ModuleBackbone, layer: str) -> None:
        super().__init__()
        self.tap = nn.Identity()
        weight = next(backbone.parameters(), torch.zeros(0))
        self.anchor = nn.Parameter(torch.zeros(0, device=weight.device))
        object.__setattr__(self, "backbone", backbone)
        self.layer = layer

    def forward(self, images: Tensor) -> Tensor:
        backbone: ModuleBackbone = self.backbone  # type: ignore[assignment]

        def show(_module: nn.Module, _inputs: Any, output: Any) -> None:
            self.tap(first_tensor(output))

        handle = backbone.module.get_submodule(self.layer).register_forward_hook(show)
        try:
            return backbone.logits(images)
        finally:
            handle.remove()


def _converter(backbone: ModuleBackbone, layer: str, images: Tensor) -> Callable[[Tensor], Tensor]:
    size = (images.shape[2], images.shape[3])
    # A copy, because an in-place operation may follow the layer.
    return lambda output: backbone.to_map(layer, output, size).clone()


def _layers_with_gradient(backbone: ModuleBackbone, images: Tensor, classes: Tensor) -> list[str]:
    """Return the candidate layers, shallow to deep, whose map has a gradient."""
    outputs: dict[str, Tensor] = {}

    def keep(name: str) -> Callable[..., None]:
        def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
            tensor = first_tensor(output)
            if tensor is not None and tensor.requires_grad:
                outputs[name] = tensor

        return hook

    names = [name for name, _ in backbone.candidate_layers()]
    handles = [
        backbone.module.get_submodule(name).register_forward_hook(keep(name)) for name in names
    ]
    try:
        logits = backbone.logits(images.detach().requires_grad_())
    finally:
        for handle in handles:
            handle.remove()
    gradients = torch.autograd.grad(
        logits.gather(1, classes[:, None]).sum(), list(outputs.values()), allow_unused=True
    )
    size = (images.shape[2], images.shape[3])
    found = {
        name
        for name, gradient in zip(outputs, gradients, strict=True)
        if gradient is not None and bool(backbone.to_map(name, gradient, size).any())
    }
    return [name for name in names if name in found]


def _named(backbone: Backbone) -> ModuleBackbone:
    if not isinstance(backbone, ModuleBackbone):
        raise InputError(
            "Grad-CAM expects a backbone that names its layers, as ttame.load_backbone gives; "
            f"got {type(backbone).__name__}"
        )
    return backbone
