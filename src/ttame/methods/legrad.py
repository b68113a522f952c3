"""LeGrad: how sensitive each block's own prediction is to its attention."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

import torch

from ttame.backbone.tokens import token_blocks
from ttame.errors import InputError
from ttame.methods.attention_blocks import AttentionPass, Recording, checked_tokens, named
from ttame.methods.attention_reading import reading
from ttame.methods.registry import register
from ttame.methods.replacing import replacing, stacked_logits

if TYPE_CHECKING:
    from torch import Tensor

    from ttame.backbone.contract import Backbone


@register(
    name="legrad",
    title="LeGrad",
    paper="Bousselham et al., ICCV 2025, arXiv 2404.03214",
    needs=("gradients", "attention"),
    cost="1 forward, 1 backward",
    options={"last": None},
)
def legrad(backbone: Backbone, images: Tensor, classes: Tensor, last: int | None = None) -> Tensor:
    """Average over blocks the positive gradients of each block's class score to its attention.

    The score s_l of block l is what the classifier says when it reads the tokens of block l in the
    place of the last block's: the same final norm, pooling and linear layer. The map is
    ``mean_l mean_heads mean_queries max(d s_l / d A_l, 0)`` at the patches, where the gradient runs
    through block l only. The paper normalises it to [0, 1] at the end; here that is left to who
    shows it.

    Args:
        backbone: A vision transformer.
        images: Its normalised input, (B, C, H, W).
        classes: (B, n) class indices.
        last: How many of the last blocks are averaged; None for all.

    Returns:
        (B, n, h, w), at least 0, one value per patch.

    Raises:
        InputError: ``last`` is not positive.
        BackboneError: The backbone does not name its layers, or has no self-attention between all
            its patches or no blocks side by side.
    """
    if last is not None and last < 1:
        raise InputError(f"expected at least one block for LeGrad, got last={last}")
    passed = layerwise_pass(backbone, images)
    rows = []
    for column in classes.T:
        gradients = passed.gradients(column.repeat(len(passed.logits) // len(images)))
        per_block = [gradient.clamp(min=0).mean(dim=(1, 2)) for gradient in gradients]
        rows.append(torch.stack(per_block[-last if last else 0 :]).mean(dim=0))
    return passed.to_map(torch.stack(rows, dim=1))


def layerwise_pass(backbone: Backbone, images: Tensor) -> AttentionPass:
    """Classify images once from the tokens of every block, in a single forward pass.

    Each block's input is cut from the blocks before it, so that gradients stay within a block; the
    output of the last one is replaced by the outputs of all, one below the other.

    Returns:
        Logits (L * B, K), block by block (the last B are the usual ones), with L attention
        matrices (B, heads, T, T).

    Raises:
        BackboneError: As of :func:`legrad`.
    """
    module = named(backbone)
    # With one block, its score is the classifier's own.
    count = reading(backbone).blocks
    blocks = token_blocks(module, count) if count > 1 else ()
    outputs: list[Tensor] = []

    def keep(tokens: Tensor) -> Tensor:
        outputs.append(tokens)
        return torch.cat(outputs) if len(outputs) == count else tokens

    with torch.inference_mode(False), torch.enable_grad(), ExitStack() as stack:
        images = images.detach().clone()
        for block in blocks:
            stack.enter_context(
                replacing(module.module, block, inputs=lambda tokens: tokens.detach(), output=keep)
            )
        recording = stack.enter_context(Recording(gradients=True))
        logits = stacked_logits(module, images, count)
    tokens = checked_tokens(module, recording.seen, images)
    return AttentionPass(logits, tuple(recording.seen), tokens)
