"""The layer whose feature map the CAM family reads, found by looking at gradients."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import torch

from ttame.backbone.layers import default_layers
from ttame.backbone.module import ModuleBackbone
from ttame.backbone.outputs import first_tensor
from ttame.backbone.probe import probe_images
from ttame.errors import BackboneError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import Tensor, nn

    from ttame.backbone.contract import Backbone

_LAYERS: WeakKeyDictionary[Backbone, str] = WeakKeyDictionary()


def layer_details(backbone: Backbone) -> Mapping[str, Any]:
    """Return the layer that was used, for the results; None before the first call."""
    return {"layer": _LAYERS.get(backbone)}


def gradient_layer(backbone: Backbone) -> str:
    """Find the layer for the CAM family by looking at gradients, once per backbone.

    The backbone's last layer, unless the gradient to its map is zero everywhere: behind the last
    attention block of a vision transformer only the class token counts. Then it is the deepest
    candidate layer with a map of the same shape that has a gradient. It is looked at on noise, so
    that it does not depend on any photo.

    Args:
        backbone: From :func:`ttame.load_backbone`; left exactly as it was.

    Returns:
        The layer's name.

    Raises:
        BackboneError: The backbone's layers are no submodules of its classifier.
        BackboneError: No such layer has a gradient.

    Example:
        >>> from ttame.backbone.registry import load_backbone
        >>> gradient_layer(load_backbone("timm/test_resnet", pretrained=False))
        'layer4'
    """
    if backbone not in _LAYERS:
        _check_names(backbone)
        with_gradient = _layers_with_gradient(backbone)
        shapes = dict(backbone.candidate_layers())
        # What is computed beside the classifier is no place that a gradient could be looked at.
        own = [name for name in backbone.layers if name in shapes]
        if not own and isinstance(backbone, ModuleBackbone):
            own = list(default_layers(backbone.probe.candidates))
        last = own[-1]
        # What lies inside the attention of a block (queries, keys, values) has the same shape, but
        # does not show what the block reads: stay within one level below the backbone's layers.
        deepest = 1 + max(name.count(".") for name in own)
        choices = [
            name
            for name in with_gradient
            if name == last or (shapes[name] == shapes[last] and name.count(".") <= deepest)
        ]
        if not choices:
            raise BackboneError(
                f"no class logit has a gradient at the map of layer {last!r} or any layer like it, "
                "so that class activation maps say nothing; choose other layers of the classifier"
            )
        _LAYERS[backbone] = last if last in choices else choices[-1]
    return _LAYERS[backbone]


def _check_names(backbone: Backbone) -> None:
    modules = {name for name, _ in backbone.module.named_modules()}
    strange = [layer.name for layer in backbone.candidate_layers() if layer.name not in modules]
    if strange:
        raise BackboneError(
            f"expected layers named as submodules of {type(backbone.module).__name__}, got "
            f"{', '.join(strange)}; name them so in the backbone, or leave this method out"
        )


def _layers_with_gradient(backbone: Backbone) -> list[str]:
    """Return the candidate layers, shallow to deep, whose map has a gradient."""
    outputs: dict[str, Tensor] = {}

    def keep(name: str) -> Callable[..., None]:
        def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
            tensor = first_tensor(output)
            if tensor is not None and tensor.requires_grad:
                outputs[name] = tensor

        return hook

    names = [name for name, _ in backbone.candidate_layers()]
    plan = backbone.preprocessing
    with torch.inference_mode(False), torch.enable_grad():
        images = probe_images(plan.crop, plan.channels, backbone).requires_grad_()
        handles = [
            backbone.module.get_submodule(name).register_forward_hook(keep(name)) for name in names
        ]
        try:
            logits = backbone.logits(images)
        finally:
            for handle in handles:
                handle.remove()
        # Unlike weights, because the logits' plain sum may be constant.
        ramp = torch.linspace(1, 2, logits.shape[1]).to(logits)
        gradients = torch.autograd.grad(
            (logits * ramp).sum(), list(outputs.values()), allow_unused=True
        )
    found = {
        name
        for name, gradient in zip(outputs, gradients, strict=True)
        if gradient is not None and bool(backbone.to_map(name, gradient, plan.crop).any())
    }
    return [name for name in names if name in found]
