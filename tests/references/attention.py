"""The attention mechanism as published, step by step, without any of ttame's shortcuts."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

CAP = 56


def slow_attention(
    features: list[Tensor],
    branches: list[dict[str, Tensor]],
    weight: Tensor,
    bias: Tensor,
    *,
    batch_statistics: bool,
    grid: str = "first",
    branch: str = "paper",
    unit_cells: bool = False,
) -> Tensor:
    """Return all class maps (B, K, H, W) before the sigmoid.

    Each branch is a state dict with ``conv.weight``, ``conv.bias``, ``norm.weight``, ``norm.bias``,
    ``norm.running_mean`` and ``norm.running_var``; ``weight`` (K, sum of C) and ``bias`` (K,) are
    the fusion. ``batch_statistics`` normalises with the batch's own mean and (biased) variance.
    """
    leading = features[0] if grid == "first" else features[-1]
    height, width = min(leading.shape[2], CAP), min(leading.shape[3], CAP)
    resized = []
    for feature, state in zip(features, branches, strict=True):
        if branch == "identity":
            mapped = feature
        elif branch == "perceptron":
            mapped = slow_perceptron(feature, state)
        else:
            filters = state["conv.weight"][:, :, 0, 0]
            mapped = torch.einsum("oc,bchw->bohw", filters, feature)
            mapped = mapped + state["conv.bias"].view(1, -1, 1, 1)
            if branch != "no-norm":
                mapped = slow_norm(mapped, state, batch_statistics)
            if branch != "no-skip":
                mapped = mapped + feature
            mapped = 1 / (1 + torch.exp(-mapped)) if branch == "sigmoid" else mapped.clamp(min=0)
        if unit_cells:
            squares = (mapped**2).sum(dim=1, keepdim=True) / mapped.shape[1]
            mapped = mapped / (squares + 1e-6).sqrt()
        resized.append(
            F.interpolate(
                mapped,
                size=(height, width),
                mode="bilinear",
                align_corners=False,
                antialias=grid == "last",
            )
        )
    fused = torch.cat(resized, dim=1)
    return torch.einsum("kc,bchw->bkhw", weight, fused) + bias.view(1, -1, 1, 1)


def slow_perceptron(feature: Tensor, state: dict[str, Tensor]) -> Tensor:
    """Cell by cell, GELU from the normal distribution function."""
    result = torch.empty_like(feature)
    for image in range(len(feature)):
        for row in range(feature.shape[2]):
            for column in range(feature.shape[3]):
                cell = feature[image, :, row, column]
                cell = cell / ((cell**2).mean() + 1e-6).sqrt()
                hidden = state["first.weight"][:, :, 0, 0] @ cell + state["first.bias"]
                hidden = hidden * 0.5 * (1 + torch.erf(hidden / 2**0.5))
                added = state["second.weight"][:, :, 0, 0] @ hidden + state["second.bias"]
                result[image, :, row, column] = cell + added
    return result


def slow_norm(mapped: Tensor, state: dict[str, Tensor], batch_statistics: bool) -> Tensor:
    """BatchNorm from its definition."""
    if batch_statistics:
        mean = mapped.mean(dim=(0, 2, 3))
        var = mapped.var(dim=(0, 2, 3), unbiased=False)
    else:
        mean, var = state["norm.running_mean"], state["norm.running_var"]
    normed = (mapped - mean.view(1, -1, 1, 1)) / (var.view(1, -1, 1, 1) + 1e-5).sqrt()
    return normed * state["norm.weight"].view(1, -1, 1, 1) + state["norm.bias"].view(1, -1, 1, 1)
