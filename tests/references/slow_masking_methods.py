"""Score-CAM, Ablation-CAM and RISE written out by hand: one pass for every single mask."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@torch.no_grad()
def slow_scorecam(model: nn.Sequential, last: int, image: Tensor, index: int) -> Tensor:
    """Return a map (h, w) at the output of ``model[last]`` for an image (1, C, H, W)."""
    feature = model[: last + 1](image)[0]
    logits = []
    for channel in feature:
        mask = F.interpolate(channel[None, None], image.shape[2:], mode="bilinear")
        span = mask.max() - mask.min()
        mask = (mask - mask.min()) / span if span > 0 else torch.zeros_like(mask)
        logits.append(model(image * mask)[0, index])
    exponentials = [math.exp(logit - max(logits)) for logit in logits]
    cam = torch.zeros_like(feature[0])
    for exponential, channel in zip(exponentials, feature, strict=True):
        cam += exponential / sum(exponentials) * channel
    return cam.clamp(min=0)


@torch.no_grad()
def slow_ablationcam(
    model: nn.Module,
    layer: str,
    image: Tensor,
    index: int,
    planes: Callable[[Tensor], list[Tensor]],
) -> Tensor:
    """Return a map (h, w); ``planes`` gives views of a layer's output, one (h, w) per channel."""
    outputs = []
    module = model.get_submodule(layer)
    handle = module.register_forward_hook(lambda _module, _inputs, out: outputs.append(out.clone()))
    logit = model(image)[0, index]
    handle.remove()
    feature = planes(outputs[0])
    cam = torch.zeros_like(feature[0])
    for channel, plane in enumerate(feature):

        def without(_module: nn.Module, _inputs: object, out: Tensor, channel: int = channel):
            changed = out.clone(memory_format=torch.contiguous_format)
            planes(changed)[channel].zero_()
            return changed

        handle = module.register_forward_hook(without)
        cam += (logit - model(image)[0, index]) * plane
        handle.remove()
    return cam.clamp(min=0)


@torch.no_grad()
def slow_rise(
    model: nn.Module,
    photo: Tensor,
    normalise: Callable[[Tensor], Tensor],
    index: int,
    seed: int,
    masks: int,
    cells: int,
    keep: float,
) -> Tensor:
    """Return a map (H, W) for a photo (C, H, W) in [0, 1]; draws all cells, then all places."""
    generator = torch.Generator().manual_seed(seed)
    height, width = photo.shape[1:]
    rows, columns = math.ceil(height / cells), math.ceil(width / cells)
    coarse = torch.rand(masks, cells, cells, generator=generator)
    tops = torch.randint(0, rows, (masks,), generator=generator).tolist()
    lefts = torch.randint(0, columns, (masks,), generator=generator).tolist()
    total = torch.zeros(height, width)
    for grid, top, left in zip(coarse, tops, lefts, strict=True):
        size = ((cells + 1) * rows, (cells + 1) * columns)
        large = F.interpolate((grid < keep).float()[None, None], size, mode="bilinear")[0, 0]
        mask = large[top : top + height, left : left + width]
        p = model(normalise(photo * mask)[None]).softmax(dim=1)[0, index]
        total += p * mask
    return total / (masks * keep)
