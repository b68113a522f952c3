"""Score-CAM, from the paper: every channel of a feature map is tried as a mask."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ttame.masking import apply_mask, make_fill, minmax, resize
from ttame.methods.batches import images_at_once
from ttame.methods.cam_layer import gradient_layer, layer_details
from ttame.methods.channels import strongest_channels
from ttame.methods.registry import register

if TYPE_CHECKING:
    from ttame.backbone.contract import Backbone


@register(
    name="scorecam",
    title="Score-CAM",
    paper="Wang et al., CVPRW 2020, arXiv 1910.01279",
    needs=("layer", "masks"),
    cost="1 masked pass a channel",
    options={"channels": None, "fill": "mean", "batch_size": None},
    slow=True,
    details=layer_details,
)
@torch.no_grad()
def scorecam(
    backbone: Backbone,
    images: Tensor,
    classes: Tensor,
    channels: int | None = None,
    fill: str = "mean",
    batch_size: int | None = None,
) -> Tensor:
    """Weight every channel by the logit that is left when the channel is the mask.

    ``ReLU(sum_c w_c F_c)``, ``w = softmax_c(y(x * minmax(resize(F_c))))``. The softmax cancels the
    logit of a black image that the paper subtracts. All classes of an image share the passes.

    Args:
        backbone: From :func:`ttame.load_backbone`.
        images: Its normalised input, (B, C, H, W).
        classes: (B, n) class indices.
        channels: How many channels are tried, those with the largest mean activation; the others
            are left out of the sum. None: all, as in the paper.
        fill: What replaces masked pixels; ``"mean"`` multiplies the normalised image, as the paper
            does.
        batch_size: Masked images per pass, which does not change the result; None suits the device.

    Returns:
        (B, n, h, w) at the layer's resolution.

    Raises:
        InputError: The number of channels is not positive.
        BackboneError: The backbone does not name its layers, or none has a gradient.
    """
    reader = backbone.with_class_token_product(False).with_layers((gradient_layer(backbone),))
    fills = make_fill(fill, images, backbone.preprocessing).expand_as(images)
    at_once = images_at_once(images.device, batch_size)
    maps = []
    for image, beneath, chosen in zip(images, fills, classes, strict=True):
        feature = reader(image[None]).features[0][0].float()
        feature = feature[strongest_channels(feature, channels)]
        logits = []
        for part in torch.split(feature, at_once):
            masks = minmax(resize(part[:, None], (image.shape[1], image.shape[2])))
            logits.append(backbone.logits(apply_mask(image, masks.to(image), beneath)).float())
        weights = torch.cat(logits)[:, chosen].softmax(dim=0)
        maps.append(torch.einsum("cn,chw->nhw", weights, feature).relu())
    return torch.stack(maps)
