"""Confidence scores of one image, written out by hand from their definitions."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn


def slow_scores(
    model: nn.Module, pixels: Tensor, raw: Tensor, share: float, mean: float, std: float
) -> tuple[float, float, float, float]:
    """Return AD, IC, AG (in percent) and the mask area of a map (h, w) on pixels (C, H, W)."""
    with torch.no_grad():
        p = model((pixels[None] - mean) / std).double().softmax(1)[0]
        index = int(p.argmax())
        full = (raw - raw.min()) / (raw.max() - raw.min())
        full = F.interpolate(
            full[None, None], pixels.shape[1:], mode="bilinear", align_corners=False
        )
        mask = full[0, 0].numpy().copy()
        mask[mask < np.quantile(mask, 1 - share)] = 0
        masked = pixels * torch.from_numpy(mask)
        o = float(model((masked[None] - mean) / std).double().softmax(1)[0, index])
    before = float(p[index])
    drop = 100 * max(0.0, before - o) / before
    gain = 100 * max(0.0, o - before) / (1 - before)
    return drop, 100.0 * (o > before), gain, float(full.mean())
