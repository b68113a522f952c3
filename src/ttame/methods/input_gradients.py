"""The plain gradient of class logits to the input, all classes from one forward pass."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

    from ttame.backbone.contract import Backbone


def input_gradients(backbone: Backbone, images: Tensor, classes: Tensor) -> Tensor:
    """Return the gradients of class logits to the classifier's input.

    Args:
        backbone: Any classifier; left exactly as it was.
        images: Its normalised input, (B, C, H, W).
        classes: (B, n) class indices.

    Returns:
        (B, n, C, H, W), signed.
    """
    # Tensors made under inference mode cannot take part in a backward pass; their copies can.
    with torch.inference_mode(False), torch.enable_grad():
        images = images.detach().clone().requires_grad_()
        logits = backbone.logits(images)
        columns = []
        for column in classes.T:
            target = logits.gather(1, column.clone()[:, None]).sum()
            (gradient,) = torch.autograd.grad(target, images, retain_graph=True)
            columns.append(gradient)
    return torch.stack(columns, dim=1)
