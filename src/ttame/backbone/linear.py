"""Finding the linear layer that turns pooled features into logits."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn


def linear_weight(module: nn.Module) -> Tensor | None:
    """Return the weight (K, D) of a linear layer or 1x1 convolution, or None for others."""
    if isinstance(module, nn.Linear):
        return module.weight
    if isinstance(module, nn.Conv2d) and module.kernel_size == (1, 1) and module.groups == 1:
        return module.weight.flatten(1)
    return None


def final_linear(
    calls: Mapping[str, tuple[nn.Module, Tensor | None]], logits: Tensor
) -> tuple[str, ...]:
    """Name the linear layers that give the logits.

    Args:
        calls: Module and output of every layer that was called once.
        logits: What the classifier returned, (B, K).

    Returns:
        One layer whose output is the logits; else all layers that give one value per class from
        equally many features (distilled transformers average two); empty where there are none.
    """
    found: dict[str, Tensor] = {}
    widths: dict[str, int] = {}
    for name, (module, output) in calls.items():
        weight = linear_weight(module)
        if weight is None or output is None or weight.shape[0] != logits.shape[1]:
            continue
        if output.numel() == logits.numel():
            found[name], widths[name] = output.reshape(logits.shape), weight.shape[1]
    for name, output in reversed(found.items()):
        if torch.equal(output, logits):
            return (name,)
    return tuple(found) if len(set(widths.values())) == 1 else ()
