"""A tiny seeded classifier with three stages, as a backbone; photos and settings for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn

from ttame.backbone.module import ModuleBackbone
from ttame.images.preprocessing import Preprocessing

# Settings of a training that is small, quick and the same on every machine.
TINY_TRAINING: dict[str, Any] = {
    "epochs": 1,
    "batch_size": 6,
    "val_share": 0.25,
    "workers": 0,
    "device": "cpu",
    "precision": "32-true",
}


def tiny_classifier(classes: int = 5, seed: int = 0) -> nn.Sequential:
    """Return a 3-stage CNN with in-place ReLUs."""
    state = torch.random.get_rng_state()
    torch.manual_seed(seed)

    def stage(inputs: int, outputs: int) -> nn.Sequential:
        return nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, stride=2, padding=1),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
        )

    head = nn.Linear(16, classes)
    model = nn.Sequential(
        stage(3, 8), stage(8, 12), stage(12, 16), nn.AdaptiveAvgPool2d(1), nn.Flatten(), head
    )
    # Centred and stretched, so that classes and confidence differ from photo to photo.
    photos = torch.rand(64, 3, 4, 4).sub(0.5).mul(4).repeat_interleave(8, 2).repeat_interleave(8, 3)
    with torch.no_grad():
        features = model.eval()[:-1](photos)
        head.weight.mul_(1.5 / head(features).std(dim=0).mean())
        head.bias.copy_(-head.weight @ features.mean(dim=0))
    torch.random.set_rng_state(state)
    return model.eval()


def tiny_backbone(
    crop: tuple[int, int] = (32, 32), classes: int = 5, seed: int = 0
) -> ModuleBackbone:
    """Return the tiny classifier as a backbone reading its three stages."""
    preprocessing = Preprocessing(crop=crop, resize=None, mean=(0.5,) * 3, std=(0.25,) * 3)
    return ModuleBackbone(
        tiny_classifier(classes, seed),
        preprocessing,
        layers=["0", "1", "2"],
        class_names=[f"class {index}" for index in range(classes)],
        name="tiny",
    )


def tiny_photos(folder: Path, count: int, size: tuple[int, int] = (40, 36)) -> Path:
    """Write ``count`` seeded PNG photos of coarse coloured cells into ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(0)
    for index in range(count):
        cells = generator.integers(0, 256, (5, 5, 3), dtype=np.uint8)
        Image.fromarray(cells).resize(size, Image.Resampling.BICUBIC).save(
            folder / f"photo-{index:02d}.png"
        )
    return folder
