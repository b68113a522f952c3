"""Iterated integrated attributions, with the double integral over image and last layer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from ttame.backbone.tokens import patch_tokens, token_blocks
from ttame.errors import BackboneError
from ttame.methods.attention_blocks import AttentionPass, Recording, named, roll
from ttame.methods.attention_reading import reading, readout
from ttame.methods.cam_layer import gradient_layer, layer_details
from ttame.methods.registry import register
from ttame.methods.replacing import replacing, stacked_logits
from ttame.methods.rollout import gradient_matrix

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from torch import Tensor

    from ttame.backbone.contract import Backbone

# Axes of the places, by the order of a layer's axes.
_PLACES = {"channels_first": (2, 3), "channels_last": (1, 2), "tokens": (1,)}


def _blocks(backbone: Backbone) -> int:
    """Count the attention blocks that can be read; 0 where the last layer is taken instead."""
    try:
        return reading(backbone).blocks
    except BackboneError:
        return 0


def _details(backbone: Backbone) -> Mapping[str, Any]:
    blocks = _blocks(backbone)
    return {"attention_blocks": blocks} if blocks else layer_details(backbone)


@register(
    name="iia",
    title="IIA",
    paper="Barkan et al., ICCV 2023, arXiv 2310.15585",
    needs=("gradients", "layer", "attention"),
    cost="10 forward, 10 backward",
    options={"steps": 10},
    details=_details,
)
def iia(backbone: Backbone, images: Tensor, classes: Tensor, steps: int = 10) -> Tensor:
    """Integrate activation times gradient over the image and the last layer (the paper's IIA2).

    The image goes from ``r`` to ``x``, ``x(a) = r + a (x - r)``, with r the least value of each
    channel; a and b take the values 1/steps, 2/steps, ..., 1.

    - With u(a) the map of the last layer that has a gradient, r' its least value per channel and
      ``v(a, b) = r' + b (u(a) - r')``, in convolutional networks the map is
      ``sum_channels mean_a [(u(a) - r') * mean_b (v(a, b) * dy/dv(a, b))]``.
    - Vision transformers take the attention A_l(a): the last block's is replaced by ``b A_L(a)``
      (the reference is 0), and ``mean_b (A_l * dy/dA_l)`` of every block is rolled out as in
      gradient attention rollout, then averaged over a. The paper rolls out before it averages over
      b; the mean comes first here, which takes one backward pass per a.

    Windowed transformers are explained like convolutional networks.

    Args:
        backbone: From :func:`ttame.load_backbone`.
        images: Its normalised input, (B, C, H, W).
        classes: (B, n) class indices.
        steps: Steps of each integral.

    Returns:
        (B, n, h, w) at the layer's resolution, or one value per patch.

    Raises:
        BackboneError: The backbone does not name its layers, none has a gradient, or the
            transformer's blocks are not found.
    """
    blocks = _blocks(backbone)
    with torch.inference_mode(False), torch.enable_grad():
        images, classes = images.detach().clone(), classes.clone()
        if blocks:
            maps = [_attention_step(backbone, x, classes, steps) for x in _path(images, steps)]
        else:
            layer = gradient_layer(backbone)
            maps = [_layer_step(backbone, layer, x, classes, steps) for x in _path(images, steps)]
    return torch.stack(maps).mean(dim=0)


def _path(images: Tensor, steps: int) -> Iterator[Tensor]:
    reference = images.amin(dim=(2, 3), keepdim=True)
    for step in range(1, steps + 1):
        yield reference + step / steps * (images - reference)


def _factors(like: Tensor, steps: int) -> Tensor:
    """Shares of the inner integral (steps * B, 1, ...), step by step, for B images."""
    shares = torch.arange(1, steps + 1, device=like.device, dtype=like.dtype) / steps
    return shares.repeat_interleave(len(like)).view(-1, *[1] * (like.ndim - 1))


def _inner_mean(values: Tensor, steps: int) -> Tensor:
    """Average (steps * B, ...), step by step, to (B, ...)."""
    return values.reshape(steps, -1, *values.shape[1:]).mean(dim=0)


def _layer_step(
    backbone: Backbone, layer: str, images: Tensor, classes: Tensor, steps: int
) -> Tensor:
    """The inner integral at a layer's map, (B, n, h, w)."""
    module = named(backbone)
    order = next(c.layout.order for c in module.probe.candidates if c.name == layer)
    spans: list[Tensor] = []
    points: list[Tensor] = []

    def interpolate(output: Tensor) -> Tensor:
        reference = output.amin(dim=_PLACES[order], keepdim=True)
        span, reference = (output - reference).detach(), reference.detach()
        copied = [steps, *[1] * (output.ndim - 1)]
        spans.append(span)
        inner = reference.repeat(copied) + _factors(span, steps) * span.repeat(copied)
        points.append(inner.requires_grad_())
        # A copy, because an in-place operation may follow the layer.
        return points[0].clone()

    with replacing(module.module, layer, output=interpolate):
        logits = stacked_logits(module, images, steps)
    size = (images.shape[2], images.shape[3])
    columns = []
    for column in classes.T:
        target = logits.gather(1, column.repeat(steps)[:, None]).sum()
        (gradient,) = torch.autograd.grad(target, points, retain_graph=True)
        inner = _inner_mean(points[0].detach() * gradient, steps)
        columns.append(module.to_map(layer, spans[0] * inner, size).sum(dim=1))
    return torch.stack(columns, dim=1)


class _ScaledLast(Recording):
    """Records attention; that of the last block is multiplied with the inner integral's shares."""

    def __init__(self, blocks: int, steps: int) -> None:
        super().__init__(gradients=True)
        self.blocks, self.steps = blocks, steps

    def see(self, weights: Tensor) -> Tensor:
        if len(self.seen) == self.blocks - 1:
            # The batch holds every image `steps` times.
            one = weights[: len(weights) // self.steps]
            weights = weights * _factors(one, self.steps)
        return super().see(weights)


def _attention_step(backbone: Backbone, images: Tensor, classes: Tensor, steps: int) -> Tensor:
    """The inner integral at the last block's attention, rolled out, (B, n, h, w)."""
    module = named(backbone)
    blocks = reading(backbone).blocks
    last = token_blocks(module, blocks)[-1]

    def repeat(tokens: Tensor) -> Tensor:
        return tokens.repeat(steps, *[1] * (tokens.ndim - 1))

    scaled = _ScaledLast(blocks, steps)
    with replacing(module.module, last, inputs=repeat), scaled:
        logits = stacked_logits(module, images, steps)
    passed = AttentionPass(
        logits,
        tuple(scaled.seen),
        patch_tokens(module, scaled.seen[0].shape[-1], (images.shape[2], images.shape[3])),
    )
    start = readout(backbone, passed.attention[-1].detach(), passed.tokens)[: len(images)]
    columns = []
    for column in classes.T:
        products = passed.products(column.repeat(steps))
        # Gradients of the sum over the inner steps: the last block holds them one by one.
        inner = [product / steps for product in products[:-1]]
        inner.append(_inner_mean(products[-1], steps))
        columns.append(roll(start, [gradient_matrix(product) for product in inner]))
    return passed.to_map(torch.stack(columns, dim=1))
