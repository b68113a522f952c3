"""Ablation-CAM, from the paper: every channel of a feature map is taken away."""

from __future__ import annotations

from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from ttame.backbone.outputs import logits_of
from ttame.backbone.probe import probe_images
from ttame.errors import TtameError
from ttame.methods.batches import images_at_once
from ttame.methods.cam_layer import gradient_layer, layer_details
from ttame.methods.channels import strongest_channels
from ttame.methods.registry import register
from ttame.methods.replacing import replacing

if TYPE_CHECKING:
    from ttame.backbone.contract import Backbone

# Copies of a late, small map are light, and every pass repeats the layers before it.
_COPIES_AT_ONCE = 64

_SHARES: WeakKeyDictionary[Backbone, bool] = WeakKeyDictionary()


@register(
    name="ablationcam",
    title="Ablation-CAM",
    paper="Desai and Ramaswamy, WACV 2020, doi 10.1109/WACV45572.2020.9093360",
    needs=("layer", "masks"),
    cost="1 partial pass a channel",
    options={"channels": None, "batch_size": None},
    slow=True,
    details=layer_details,
)
@torch.no_grad()
def ablationcam(
    backbone: Backbone,
    images: Tensor,
    classes: Tensor,
    channels: int | None = None,
    batch_size: int | None = None,
) -> Tensor:
    """Weight every channel by the logit that is lost when the channel is set to 0.

    ``ReLU(sum_c (y - y_c) F_c)``. The paper divides by y, a positive constant of each map where the
    class is predicted; without it the sign is right for classes with a negative logit too. All
    classes of an image share the passes, and all channels share the layers before the feature map
    where the classifier allows it (:func:`shares_the_way`).

    Args:
        backbone: From :func:`ttame.load_backbone`; left exactly as it was.
        images: Its normalised input, (B, C, H, W).
        classes: (B, n) class indices.
        channels: How many channels are ablated, those with the largest mean activation; the others
            get the weight 0. None: all, as in the paper.
        batch_size: Channels per pass, which does not change the result; None suits the device.

    Returns:
        (B, n, h, w) at the layer's resolution.

    Raises:
        InputError: The number of channels is not positive.
        BackboneError: The backbone does not name its layers, or none has a gradient.
    """
    layer = gradient_layer(backbone)
    reader = backbone.with_class_token_product(False).with_layers((layer,))
    shared = shares_the_way(backbone, layer)
    copies = _COPIES_AT_ONCE if shared and batch_size is None else batch_size
    at_once = images_at_once(images.device, copies)
    maps = []
    for image, chosen in zip(images, classes, strict=True):
        output = reader(image[None])
        feature = output.features[0][0].float()
        tried = strongest_channels(feature, channels)
        logits = torch.cat(
            [
                ablated_logits(backbone, layer, image, part, shared).float()
                for part in torch.split(tried, at_once)
            ]
        )
        weights = (output.logits.float() - logits)[:, chosen]
        maps.append(torch.einsum("cn,chw->nhw", weights, feature[tried]).relu())
    return torch.stack(maps)


def ablated_logits(
    backbone: Backbone, layer: str, image: Tensor, channels: Tensor, shared: bool
) -> Tensor:
    """Classify an image as often as there are channels, each time without one of them.

    Prefix tokens of a transformer's layer keep their values: they are no part of the feature map.

    Args:
        backbone: The classifier.
        layer: Name of the layer whose output is changed.
        image: (C, H, W).
        channels: (m,) channels of the layer's feature map.
        shared: Pass one image through the layers before, and m through those behind.

    Returns:
        Logits (m, K).
    """
    count = len(channels)
    size = (image.shape[1], image.shape[2])

    def ablate(output: Tensor) -> Tensor:
        changed = output.repeat(count // len(output), *[1] * (output.ndim - 1))
        # A view of `changed` in every layout: what is set in it is set in the output.
        view = backbone.to_map(layer, changed, size)
        view[torch.arange(count, device=view.device), channels] = 0
        return changed

    with replacing(backbone.module, layer, output=ablate):
        if shared:
            return logits_of(backbone.module(image[None]), count, backbone.logits_part)
        return backbone.logits(image.expand(count, -1, -1, -1))


def shares_the_way(backbone: Backbone, layer: str) -> bool:
    """Find out whether several changed copies of a layer's output can follow one image.

    They can in most classifiers: what runs past the layer is added by broadcasting. It is tried on
    noise, once per backbone, and compared with whole passes.
    """
    if backbone not in _SHARES:
        plan = backbone.preprocessing
        (image,) = probe_images(plan.crop, plan.channels, backbone, 1)
        width = dict(backbone.candidate_layers())[layer][0]
        channels = torch.arange(min(3, width), device=image.device)
        whole = ablated_logits(backbone, layer, image, channels, shared=False)
        try:
            quick = ablated_logits(backbone, layer, image, channels, shared=True)
            _SHARES[backbone] = torch.allclose(quick, whole, rtol=1e-3, atol=1e-4)
        except (RuntimeError, ValueError, IndexError, AssertionError, TtameError):
            _SHARES[backbone] = False
    return _SHARES[backbone]
