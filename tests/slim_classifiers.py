"""Stand-ins for torchvision's VGG-16, ResNet-50 and ViT-B-16: their names and widths, little work.

The layers that the preset ``paper`` reads have their names and numbers of channels, so that it
knows them, and the attention mechanism is the full one. Photos are averaged over squares first and
convolutions are grouped: methods that mask every channel take thousands of passes.
"""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import nn
from torchvision.models import VisionTransformer
from torchvision.models._api import BUILTIN_MODELS


class SlimVgg(nn.Module):
    """Two strided 1x1 convolutions between VGG-16's last three pooled maps."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(*(nn.Identity() for _ in range(31)))
        self.features[0] = nn.AvgPool2d(16)
        self.features[1] = nn.Conv2d(3, 256, 1)
        self.features[17] = nn.Conv2d(256, 512, 1, stride=2, groups=32)
        self.features[24] = nn.Conv2d(512, 512, 1, stride=2, groups=32)
        for place in (16, 23, 30):
            self.features[place] = nn.ReLU()
        self.classifier = nn.Linear(512, 1000)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.classifier(self.features(images).mean(dim=(2, 3)))


class SlimResNet(nn.Module):
    """One strided convolution for each stage of ResNet-50."""

    def __init__(self) -> None:
        super().__init__()
        self.layer2 = nn.Sequential(nn.AvgPool2d(16), nn.Conv2d(3, 512, 1), nn.ReLU())
        self.layer3 = nn.Sequential(nn.Conv2d(512, 1024, 1, stride=2, groups=32), nn.ReLU())
        self.layer4 = nn.Sequential(nn.Conv2d(1024, 2048, 1, stride=2, groups=32), nn.ReLU())
        self.fc = nn.Linear(2048, 1000)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.fc(self.layer4(self.layer3(self.layer2(images))).mean(dim=(2, 3)))


def slim_vit() -> nn.Module:
    """The last three blocks of ViT-B-16 with narrow MLPs, on 2 x 2 patches."""
    model = VisionTransformer(
        image_size=224, patch_size=112, num_layers=12, num_heads=12, hidden_dim=768, mlp_dim=8
    )
    model.conv_proj = nn.Sequential(nn.AvgPool2d(28), nn.Conv2d(3, 768, 4, stride=4))
    for place in range(9):
        setattr(model.encoder.layers, f"encoder_layer_{place}", nn.Identity())
    nn.init.normal_(model.heads.head.weight, std=0.1)  # torchvision starts it at zero
    return model


SLIM = {"vgg16": SlimVgg, "resnet50": SlimResNet, "vit_b_16": slim_vit}


def replace_builders(monkeypatch: Any) -> None:
    """Let torchvision build the stand-ins, always with the same weights."""
    for name, build in SLIM.items():
        monkeypatch.setitem(BUILTIN_MODELS, name, _builder(name, build))


def _builder(name: str, build: Any) -> Any:
    # Its signature tells torchvision which weights were published, and with them the preprocessing.
    @functools.wraps(BUILTIN_MODELS[name])
    def builder(**_: Any) -> nn.Module:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return build()

    return builder
