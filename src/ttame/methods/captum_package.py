"""Attributions by the package captum on any backbone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from ttame.errors import InputError

if TYPE_CHECKING:
    from types import ModuleType

    from torch import Tensor

    from ttame.backbone.contract import Backbone


def captum_attr() -> ModuleType:
    """Import ``captum.attr``.

    Raises:
        InputError: The package is missing.
    """
    try:
        import captum.attr
    except ImportError as error:
        raise InputError(
            f"this method needs the package captum ({error}); install it with: pip install captum"
        ) from error
    module: ModuleType = captum.attr
    return module


def attributions(
    name: str, backbone: Backbone, images: Tensor, classes: Tensor, **arguments: Any
) -> Tensor:
    """Attribute class logits to the pixels of the classifier's input.

    Captum is given the classifier as a function, so that it finds nothing to set or hook.

    Args:
        name: A class of ``captum.attr`` that takes a function.
        backbone: The classifier.
        images: Its normalised input, (B, C, H, W).
        classes: (B, n) class indices.
        **arguments: Other arguments of ``attribute``; tensors are copied.

    Returns:
        (B, n, C, H, W), signed.

    Raises:
        InputError: The package is missing.
    """
    method = getattr(captum_attr(), name)(backbone.logits)
    # Tensors made under inference mode cannot take part in a backward pass; their copies can.
    with torch.inference_mode(False), torch.enable_grad():
        images = images.detach().clone().requires_grad_()
        copies = {
            key: value.detach().clone() if isinstance(value, torch.Tensor) else value
            for key, value in arguments.items()
        }
        columns = [
            method.attribute(images, target=column.clone(), **copies).detach()
            for column in classes.T
        ]
    return torch.stack(columns, dim=1)
