"""One tiny backbone for each kind of feature map: planes, tokens, channels last."""

from __future__ import annotations

import timm

from tiny_backbone import tiny_backbone
from tiny_transformers import as_backbone, lively, transformer
from ttame.backbone.module import ModuleBackbone


def swin() -> ModuleBackbone:
    """Return a two-stage Swin transformer for images of 32 x 48, whose maps are (B, H, W, C)."""
    model = timm.create_model(
        "swin_tiny_patch4_window7_224", img_size=(32, 48), window_size=4, embed_dim=8,
        depths=(1, 2), num_heads=(2, 2), num_classes=5,
    )  # fmt: skip
    return as_backbone(lively(model))


FAMILIES = {
    "cnn": lambda: tiny_backbone((24, 40)),
    "vit": lambda: transformer("class token"),
    "swin": swin,
}
