"""Grad-CAM written out by hand for a sequential classifier: one image and class at a time."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def slow_gradcam(model: nn.Sequential, last: int, images: Tensor, classes: Tensor) -> Tensor:
    """Return maps (B, n, h, w), min-max normalised, at the output of ``model[last]``."""
    rows = []
    for image, chosen in zip(images, classes.tolist(), strict=True):
        maps = []
        for index in chosen:
            with torch.no_grad():
                feature = model[: last + 1](image[None])
            feature = feature.clone().requires_grad_()
            logit = model[last + 1 :](feature)[0, index]
            (gradient,) = torch.autograd.grad(logit, feature)
            height, width = feature.shape[2:]
            cam = torch.zeros(height, width)
            for channel in range(feature.shape[1]):
                weight = gradient[0, channel].sum() / (height * width)
                cam += weight * feature.detach()[0, channel]
            cam = cam.clamp(min=0)
            span = cam.max() - cam.min()
            maps.append((cam - cam.min()) / span if span > 0 else torch.zeros_like(cam))
        rows.append(torch.stack(maps))
    return torch.stack(rows)
