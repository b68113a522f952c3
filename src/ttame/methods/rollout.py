"""Attention rollout: attention multiplied through the blocks, plain and weighted by gradients."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from ttame.methods.attention_blocks import attention_pass, roll
from ttame.methods.attention_reading import readout
from ttame.methods.registry import register

if TYPE_CHECKING:
    from torch import Tensor

    from ttame.backbone.contract import Backbone


@register(
    name="rollout",
    title="Attention rollout",
    paper="Abnar and Zuidema, ACL 2020, arXiv 2005.00928",
    needs=("attention",),
    cost="1 forward; the same map for every class",
    options={"residual": 0.5},
)
def rollout(backbone: Backbone, images: Tensor, classes: Tensor, residual: float = 0.5) -> Tensor:
    """Multiply the attention of all blocks; it does not look at the class.

    ``R = M_L ... M_1`` with ``M_l = (1 - residual) * mean_heads(A_l) + residual * I``. The map is
    the row of R of the token that the classifier reads (the mean of rows where it pools several),
    at the patches.

    Args:
        backbone: A vision transformer.
        images: Its normalised input, (B, C, H, W).
        classes: (B, n) class indices; every class of an image gets the same map.
        residual: Share of the skip connection, in [0, 1].

    Returns:
        (B, n, h, w) in [0, 1], one value per patch.

    Raises:
        BackboneError: The backbone does not name its layers, or has no self-attention between all
            its patches.
    """
    passed = attention_pass(backbone, images)
    matrices = [mix(attention.mean(dim=1), residual) for attention in passed.attention]
    start = readout(backbone, passed.attention[-1], passed.tokens)
    maps = passed.to_map(roll(start, matrices))
    return maps[:, None].expand(-1, classes.shape[1], -1, -1)


@register(
    name="gradient_rollout",
    title="Gradient attention rollout",
    paper="Abnar and Zuidema, ACL 2020, with the attention weighted by its gradients as in "
    "Barkan et al., ICCV 2023, openaccess.thecvf.com",
    needs=("gradients", "attention"),
    cost="1 forward, 1 backward",
)
def gradient_rollout(backbone: Backbone, images: Tensor, classes: Tensor) -> Tensor:
    """Roll out attention times the gradient of the class logit.

    As :func:`rollout` with ``M_l = rows_to_1(mean_heads(max(A_l * dy/dA_l, 0)) + I)``: what has a
    negative effect on the class is left out, and each row is divided by its sum.

    Args:
        backbone: A vision transformer.
        images: Its normalised input, (B, C, H, W).
        classes: (B, n) class indices.

    Returns:
        (B, n, h, w) in [0, 1], one value per patch.

    Raises:
        BackboneError: The backbone does not name its layers, or has no self-attention between all
            its patches.
    """
    passed = attention_pass(backbone, images, gradients=True)
    start = readout(backbone, passed.attention[-1].detach(), passed.tokens)
    rows = []
    for column in classes.T:
        products = passed.products(column.clone())
        rows.append(roll(start, [gradient_matrix(product) for product in products]))
    return passed.to_map(torch.stack(rows, dim=1))


def mix(matrix: Tensor, residual: float) -> Tensor:
    """Mix a matrix (B, T, T) with the identity of the skip connection.

    Example:
        >>> mix(torch.tensor([[[0.2, 0.8], [0.6, 0.4]]]), 0.5)
        tensor([[[0.6000, 0.4000],
                 [0.3000, 0.7000]]])
    """
    identity = torch.eye(matrix.shape[-1], dtype=matrix.dtype, device=matrix.device)
    return (1 - residual) * matrix + residual * identity


def gradient_matrix(product: Tensor) -> Tensor:
    """Turn attention times gradient (B, heads, T, T) into a rollout matrix (B, T, T)."""
    positive = product.clamp(min=0).mean(dim=1)
    matrix = positive + torch.eye(positive.shape[-1], dtype=product.dtype, device=product.device)
    return matrix / matrix.sum(dim=-1, keepdim=True)
