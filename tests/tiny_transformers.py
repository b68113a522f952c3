"""Tiny seeded vision transformers of timm and torchvision, as backbones."""

from __future__ import annotations

from typing import Any

import timm
import torch
import torchvision
from torch import nn

from ttame.backbone.module import ModuleBackbone
from ttame.images.preprocessing import Preprocessing

KINDS = {
    "class token": {},
    "registers": {"reg_tokens": 3},
    "pooled": {"global_pool": "avg", "class_token": False},
    "pooled beside a class token": {"global_pool": "avg"},
}


def lively(model: nn.Module, seed: int = 0) -> nn.Module:
    """Draw all weights at a size at which attention is far from uniform."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in sorted(model.named_parameters()):
            noise = torch.randn(parameter.shape, generator=generator)
            if parameter.ndim == 1:
                parameter.copy_(noise * 0.2 + (1 if "norm" in name and "weight" in name else 0))
            else:
                parameter.copy_(noise * (1.5 / parameter[0].numel() ** 0.5))
    return model.eval()


def timm_transformer(size: tuple[int, int] = (32, 48), **values: Any) -> nn.Module:
    """Return a timm ViT with 2 blocks, 2 heads and patches of 8 pixels."""
    given = {"depth": 2, "embed_dim": 16, "num_heads": 2, "num_classes": 5, "patch_size": 8}
    model = timm.create_model("vit_tiny_patch16_224", img_size=size, **{**given, **values})
    return lively(model)


def torchvision_transformer() -> nn.Module:
    """Return a torchvision ViT with 2 blocks, 2 heads and patches of 8 pixels."""
    return lively(
        torchvision.models.VisionTransformer(
            image_size=32, patch_size=8, num_layers=2, num_heads=2, hidden_dim=16, mlp_dim=32,
            num_classes=5,
        )
    )  # fmt: skip


def as_backbone(model: nn.Module, size: tuple[int, int] = (32, 48)) -> ModuleBackbone:
    """Wrap a model whose images are (3, *size)."""
    return ModuleBackbone(model, Preprocessing(crop=size, resize=None, mean=(0.5,) * 3))


def transformer(kind: str) -> ModuleBackbone:
    """Return one of ``KINDS``, or ``"torchvision"``."""
    if kind == "torchvision":
        return as_backbone(torchvision_transformer(), (32, 32))
    return as_backbone(timm_transformer(**KINDS[kind]))
