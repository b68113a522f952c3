"""Transformer attribution by Chefer et al., the rule of ICCV 2021 for self-attention."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from ttame.methods.attention_blocks import attention_pass
from ttame.methods.attention_reading import readout
from ttame.methods.registry import register

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from ttame.backbone.contract import Backbone


@register(
    name="chefer",
    title="Chefer et al. (ICCV 2021)",
    paper="Chefer, Gur and Wolf, ICCV 2021, arXiv 2103.15679",
    needs=("gradients", "attention"),
    cost="1 forward, 1 backward",
)
def chefer(backbone: Backbone, images: Tensor, classes: Tensor) -> Tensor:
    """Add up the relevance of tokens for each other, block by block.

    ``R <- R + E_l R`` from ``R = I``, with ``E_l = mean_heads(max(A_l * dy/dA_l, 0))``. The map is
    the row of R of the token that the classifier reads (the mean of rows where it pools several),
    at the patches.

    The same authors' CVPR 2021 method takes layer-wise relevance in the place of the attention in
    ``E_l``: :func:`~ttame.methods.transformer_lrp.transformer_lrp`.

    Args:
        backbone: A vision transformer.
        images: Its normalised input, (B, C, H, W).
        classes: (B, n) class indices.

    Returns:
        (B, n, h, w), at least 0, one value per patch.

    Raises:
        BackboneError: The backbone does not name its layers, or has no self-attention between all
            its patches.
    """
    passed = attention_pass(backbone, images, gradients=True)
    start = readout(backbone, passed.attention[-1].detach(), passed.tokens)
    rows = []
    for column in classes.T:
        products = passed.products(column.clone())
        rows.append(relevance(start, [part.clamp(min=0).mean(dim=1) for part in products]))
    return passed.to_map(torch.stack(rows, dim=1))


def relevance(start: Tensor, effects: Sequence[Tensor]) -> Tensor:
    """Multiply a row (B, T) with ``(I + E_L) ... (I + E_1)``.

    Example:
        >>> relevance(torch.tensor([[1.0, 0.0]]), [torch.tensor([[[0.5, 0.2], [0.0, 0.0]]])])
        tensor([[1.5000, 0.2000]])
    """
    row = start.unsqueeze(1)
    for effect in reversed(effects):
        row = row + row @ effect
    return row.squeeze(1)
