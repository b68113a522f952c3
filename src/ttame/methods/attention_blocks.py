"""The attention matrices of a vision transformer, and their gradients, in one pass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ttame.backbone.module import ModuleBackbone
from ttame.backbone.tokens import TokenGrid, patch_tokens
from ttame.errors import BackboneError
from ttame.methods.explicit_attention import ExplicitAttention

if TYPE_CHECKING:
    from ttame.backbone.contract import Backbone


class Recording(ExplicitAttention):
    """Keeps every attention matrix that is computed inside the context.

    Args:
        gradients: Gradients to the matrices will be asked for. The first one is made a leaf where
            nothing before it needs a gradient, so that a backward pass ends there.

    Attributes:
        seen: The matrices, in the order of execution.
    """

    def __init__(self, gradients: bool = False) -> None:
        super().__init__()
        self.gradients = gradients
        self.seen: list[Tensor] = []

    def see(self, weights: Tensor) -> Tensor:
        """Keep a matrix."""
        if self.gradients and not weights.requires_grad:
            weights = weights.detach().requires_grad_()
        self.seen.append(weights)
        return weights


@dataclass(frozen=True)
class AttentionPass:
    """One forward pass of a vision transformer.

    Attributes:
        logits: (B, K).
        attention: One matrix (B, heads, T, T) per block, shallow to deep; rows sum to 1.
        tokens: Which of the T tokens are patches.
    """

    logits: Tensor
    attention: tuple[Tensor, ...]
    tokens: TokenGrid

    def gradients(self, classes: Tensor) -> tuple[Tensor, ...]:
        """Return the gradients of one class logit per image to every matrix, detached.

        Args:
            classes: (B,) class indices.
        """
        target = self.logits.gather(1, classes[:, None]).sum()
        return torch.autograd.grad(
            target, self.attention, retain_graph=True, allow_unused=True, materialize_grads=True
        )

    def products(self, classes: Tensor) -> list[Tensor]:
        """Return attention times its gradient for one class logit per image, detached.

        Args:
            classes: (B,) class indices.
        """
        pairs = zip(self.attention, self.gradients(classes), strict=True)
        return [attention.detach() * gradient for attention, gradient in pairs]

    def to_map(self, relevance: Tensor) -> Tensor:
        """Lay the relevance of tokens (..., T) out on the grid of patches (..., h, w)."""
        prefix, grid = self.tokens
        patches = relevance[..., prefix:]
        return patches.reshape(*patches.shape[:-1], *grid)


def attention_pass(backbone: Backbone, images: Tensor, *, gradients: bool = False) -> AttentionPass:
    """Classify images and record the attention of every block.

    Args:
        backbone: A vision transformer; left exactly as it was.
        images: Its normalised input, (B, C, H, W).
        gradients: Record for :meth:`AttentionPass.gradients`.

    Raises:
        BackboneError: The backbone does not name its layers, or has no self-attention between all
            its patches.
    """
    return recorded_pass(backbone, images, Recording(gradients))


def recorded_pass(
    backbone: Backbone, images: Tensor, recording: Recording, *, from_images: bool = False
) -> AttentionPass:
    """Classify images under a recording, which may change how gradients flow.

    Args:
        backbone: A vision transformer; left exactly as it was.
        images: Its normalised input, (B, C, H, W).
        recording: New; afterwards it has seen the attention.
        from_images: Let all that depends on the images have a gradient, in the first block too.

    Raises:
        BackboneError: As of :func:`attention_pass`.
    """
    module = named(backbone)
    # Tensors made under inference mode cannot take part in a backward pass; their copies can.
    with torch.inference_mode(False), torch.set_grad_enabled(recording.gradients):
        images = images.detach().clone().requires_grad_(from_images)
        with recording:
            logits = module.logits(images)
    seen = tuple(recording.seen)
    return AttentionPass(logits, seen, checked_tokens(module, seen, images))


def checked_tokens(
    backbone: ModuleBackbone, attention: Sequence[Tensor], images: Tensor
) -> TokenGrid:
    """Find the patches that recorded matrices are about.

    Raises:
        BackboneError: There are no matrices, or they are not about all patches of an image.
    """
    name = backbone.identity.name
    if not attention:
        raise BackboneError(
            f"{name} has no self-attention block whose attention can be recorded; this method "
            "explains vision transformers"
        )
    if any(len(matrix) != len(images) for matrix in attention):
        raise BackboneError(
            f"the attention of {name} looks at windows of the image, each on its own; this method "
            "needs attention between all patches"
        )
    if any(matrix.shape[-1] != matrix.shape[-2] for matrix in attention):
        raise BackboneError(
            f"the attention of {name} looks at a coarser grid than it comes from; this method "
            "needs attention between all patches"
        )
    counts = sorted({matrix.shape[-1] for matrix in attention})
    if len(counts) > 1:
        raise BackboneError(
            f"the blocks of {name} attend to different numbers of tokens "
            f"({', '.join(map(str, counts))}); this method needs the same in every block"
        )
    return patch_tokens(backbone, counts[0], (images.shape[2], images.shape[3]))


def roll(start: Tensor, matrices: Sequence[Tensor]) -> Tensor:
    """Multiply rows (B, T) with matrices (B, T, T), the deepest first: ``start M_L ... M_1``.

    Example:
        >>> roll(torch.tensor([[0.0, 1.0]]), [torch.tensor([[[1.0, 2.0], [3.0, 4.0]]])])
        tensor([[3., 4.]])
    """
    row = start.unsqueeze(1)
    for matrix in reversed(matrices):
        row = row @ matrix
    return row.squeeze(1)


def named(backbone: Backbone) -> ModuleBackbone:
    """Return the backbone as one that names its layers.

    Raises:
        BackboneError: It does not.
    """
    if not isinstance(backbone, ModuleBackbone):
        raise BackboneError(
            "expected a backbone that names its layers, as ttame.load_backbone gives; "
            f"got {type(backbone).__name__}"
        )
    return backbone
