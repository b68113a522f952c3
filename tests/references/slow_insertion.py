"""Insertion or deletion of one image without ties: pixel by pixel, one pass for each step."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import torch
from scipy.ndimage import correlate
from torch import Tensor

from ttame.backbone.contract import Backbone


def slow_curve(
    backbone: Backbone, start: Tensor, end: Tensor, mask: Tensor, index: int, steps: int
) -> list[float]:
    """Turn photo ``start`` (C, H, W) into ``end``; probabilities of the class after each step."""
    order = np.argsort(-mask.flatten().numpy())
    photo = start.clone().flatten(1)
    changed = 0
    curve = []
    for step in range(steps + 1):
        while changed < round(step * len(order) / steps):
            photo[:, order[changed]] = end.flatten(1)[:, order[changed]]
            changed += 1
        with torch.no_grad():
            images = backbone.preprocessing.normalise(photo.view(start.shape)[None])
            curve.append(float(backbone.logits(images).double().softmax(dim=1)[0, index]))
    return curve


def slow_area(curve: list[float]) -> float:
    """Area under the curve over [0, 1], trapezoid by trapezoid."""
    return sum((a + b) / 2 for a, b in pairwise(curve)) / (len(curve) - 1)


def slow_blur(pixels: np.ndarray) -> np.ndarray:
    """Blur one channel (H, W) with an 11 x 11 Gaussian of sigma 5, edges repeated."""
    rows, columns = np.mgrid[-5:6, -5:6]
    kernel = np.exp(-(rows**2 + columns**2) / 50)
    return correlate(pixels.astype(np.float64), kernel / kernel.sum(), mode="nearest")
