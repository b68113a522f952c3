"""Tiny configurations of every family of image classifiers in transformers."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tiny_transformers import lively

CLASSES = 5

_BLOCKS = {
    "hidden_size": 16,
    "num_hidden_layers": 4,
    "num_attention_heads": 2,
    "intermediate_size": 32,
}
_VIT = {**_BLOCKS, "image_size": 32, "patch_size": 8}


@dataclass(frozen=True)
class Tiny:
    """A model type of transformers, at a size at which it is built and run in a moment.

    Attributes:
        model_type: Its name in transformers' registry of configurations.
        maps: Shapes (C, H, W) of the feature maps that are read by default.
        values: Entries of the configuration, beside the number of classes.
        architecture: Class of the classifier, where the model type has several.
        size: Side of the input, in pixels.
    """

    model_type: str
    maps: tuple[tuple[int, int, int], ...]
    values: dict[str, Any] = field(default_factory=dict)
    architecture: str | None = None
    size: int = 32

    @property
    def any_size(self) -> bool:
        """Whether the input may have another size; small sizes belong to position embeddings."""
        return self.size > 32 and "image_size" not in self.values


# Transformers with one resolution: a late block, and the last norm where it keeps the tokens.
_ONE = ((16, 4, 4),)
_TWO = ((16, 4, 4), (16, 4, 4))
_THREE = ((8, 8, 8), (16, 4, 4), (16, 2, 2))
_STAGES = {"hidden_sizes": [8, 8, 16, 16], "depths": [1, 2, 2, 1]}
_PYRAMID = {**_STAGES, "num_attention_heads": [1, 1, 2, 2], "mlp_ratios": [2, 2, 2, 2]}
_WINDOWS = {
    "image_size": 64,
    "patch_size": 4,
    "window_size": 4,
    "embed_dim": 8,
    "depths": [1, 2, 2],
    "num_heads": [1, 2, 2],
}
_LEVIT = {
    "image_size": 64,
    "hidden_sizes": [16, 16, 16],
    "num_attention_heads": [2, 2, 2],
    "depths": [1, 1, 1],
    "key_dim": [4, 4, 4],
}

FAMILIES: dict[str, Tiny] = {
    "vit": Tiny("vit", _TWO, _VIT),
    "vit_msn": Tiny("vit_msn", _TWO, _VIT),
    "ijepa": Tiny("ijepa", _TWO, _VIT),
    "deit": Tiny("deit", _TWO, _VIT, "DeiTForImageClassification"),
    "deit distilled": Tiny("deit", _TWO, _VIT, "DeiTForImageClassificationWithTeacher"),
    "beit": Tiny("beit", _ONE, _VIT),
    "data2vec-vision": Tiny("data2vec-vision", _ONE, _VIT),
    "dinov2": Tiny("dinov2", _TWO, {**_VIT, "mlp_ratio": 2}),
    "dinov2 with registers": Tiny(
        "dinov2_with_registers", _TWO, {**_VIT, "num_register_tokens": 3}
    ),
    "clip": Tiny("clip", _ONE, {"vision_config": _VIT}),
    "metaclip_2": Tiny("metaclip_2", _ONE, {"vision_config": _VIT}),
    "siglip": Tiny("siglip", _TWO, {"vision_config": _VIT}),
    "swin": Tiny("swin", ((8, 16, 16), (16, 8, 8), (32, 4, 4)), _WINDOWS, size=64),
    "swinv2": Tiny("swinv2", ((8, 16, 16), (16, 8, 8), (32, 4, 4)), _WINDOWS, size=64),
    "donut-swin": Tiny("donut-swin", ((8, 16, 16), (16, 8, 8), (32, 4, 4)), _WINDOWS, size=64),
    "hiera": Tiny(
        "hiera",
        ((16, 8, 8), (32, 4, 4), (64, 2, 2)),
        {
            "image_size": [64, 64],
            "embed_dim": 8,
            "depths": [1, 1, 2, 1],
            "num_heads": [1, 2, 2, 4],
        },
        size=64,
    ),
    "focalnet": Tiny(
        "focalnet",
        ((16, 8, 8), (32, 4, 4), (64, 2, 2)),
        {**_STAGES, "embed_dim": 8, "focal_levels": [1] * 4, "focal_windows": [3] * 4},
        size=64,
    ),
    "convnext": Tiny("convnext", _THREE, _STAGES, size=64),
    "convnextv2": Tiny("convnextv2", _THREE, _STAGES, size=64),
    "resnet": Tiny("resnet", _THREE, {**_STAGES, "embedding_size": 8}, size=64),
    "regnet": Tiny("regnet", _THREE, {**_STAGES, "embedding_size": 8, "groups_width": 4}, size=64),
    "bit": Tiny("bit", _THREE, {**_STAGES, "embedding_size": 8, "num_groups": 1}, size=64),
    "mobilenet_v1": Tiny(
        "mobilenet_v1",
        ((64, 8, 8), (128, 4, 4), (256, 2, 2)),
        {"depth_multiplier": 0.25, "min_depth": 4},
        size=64,
    ),
    "mobilenet_v2": Tiny(
        "mobilenet_v2", ((8, 8, 8), (24, 4, 4), (1280, 2, 2)), {"depth_multiplier": 0.25}, size=64
    ),
    "efficientnet": Tiny(
        "efficientnet",
        ((16, 8, 8), (32, 4, 4), (320, 2, 2)),
        {"width_coefficient": 0.25, "depth_coefficient": 0.2, "hidden_dim": 320},
        size=64,
    ),
    "mobilevit": Tiny(
        "mobilevit",
        ((12, 8, 8), (16, 4, 4), (24, 2, 2)),
        {
            "hidden_sizes": [16, 16, 16],
            "neck_hidden_sizes": [8, 8, 8, 12, 16, 16, 24],
            "num_attention_heads": 2,
        },
        size=64,
    ),
    "mobilevitv2": Tiny(
        "mobilevitv2", ((64, 8, 8), (96, 4, 4), (128, 2, 2)), {"width_multiplier": 0.25}, size=64
    ),
    "pvt": Tiny("pvt", _THREE, {**_PYRAMID, "image_size": 64}, size=64),
    "pvt_v2": Tiny("pvt_v2", _THREE, {**_PYRAMID, "image_size": 64}, size=64),
    "segformer": Tiny("segformer", _THREE, _PYRAMID, size=64),
    "poolformer": Tiny("poolformer", _THREE, _STAGES, size=64),
    "cvt": Tiny(
        "cvt",
        ((8, 16, 16), (16, 8, 8), (16, 4, 4)),
        {"embed_dim": [8, 16, 16], "depth": [1, 2, 3], "num_heads": [1, 2, 2]},
        size=64,
    ),
    "levit": Tiny("levit", _THREE, _LEVIT, "LevitForImageClassification", size=64),
    "levit distilled": Tiny(
        "levit", _THREE, _LEVIT, "LevitForImageClassificationWithTeacher", size=64
    ),
    "swiftformer": Tiny(
        "swiftformer",
        _THREE,
        {"embed_dims": [8, 8, 16, 16], "depths": [1, 2, 2, 1], "mlp_ratio": 2},
        size=64,
    ),
    "textnet": Tiny(
        "textnet",
        _THREE,
        {
            "hidden_sizes": [8, 8, 8, 16, 16],
            "stem_out_channels": 8,
            "conv_layer_kernel_sizes": [[[3, 3]], [[3, 3]], [[3, 1]], [[3, 3]]],
            "conv_layer_strides": [[2], [2], [2], [2]],
        },
        size=64,
    ),
    "hgnet_v2": Tiny(
        "hgnet_v2",
        _THREE,
        {
            "embedding_size": 8,
            "stem_channels": [3, 8, 8],
            "hidden_sizes": [8, 8, 16, 16],
            "stage_in_channels": [8, 8, 8, 16],
            "stage_mid_channels": [4, 4, 4, 4],
            "stage_out_channels": [8, 8, 16, 16],
            "stage_num_blocks": [1, 1, 1, 1],
            "stage_numb_of_layers": [2, 2, 2, 2],
            "depths": [1, 1, 1, 1],
        },
        size=64,
    ),
    "pp_lcnet": Tiny("pp_lcnet", ((32, 8, 8), (64, 4, 4), (128, 2, 2)), {"scale": 0.25}, size=64),
    "perceiver": Tiny(
        "perceiver",
        ((64, 16, 16), (322, 7, 7)),
        {
            "num_latents": 8,
            "d_latents": 16,
            "num_blocks": 1,
            "num_self_attends_per_block": 2,
            "num_self_attention_heads": 2,
            "num_cross_attention_heads": 2,
        },
        "PerceiverForImageClassificationConvProcessing",
    ),
    "timm_wrapper": Tiny(
        "timm_wrapper",
        ((128, 8, 8), (256, 4, 4), (512, 2, 2)),
        {"architecture": "resnet10t", "num_classes": CLASSES},
        size=64,
    ),
}


def save_description(tiny: Tiny, folder: Path) -> Path:
    """Write what describes a model and its image processor, where that is not there yet."""
    folder.mkdir(parents=True, exist_ok=True)
    config = {"model_type": tiny.model_type, "num_labels": CLASSES, **tiny.values}
    if tiny.architecture is not None:
        config["architectures"] = [tiny.architecture]
    (folder / "config.json").write_text(json.dumps(config))
    if not (folder / "preprocessor_config.json").is_file():
        size = {"height": tiny.size, "width": tiny.size}
        processor = {"image_processor_type": "ViTImageProcessor", "size": size}
        (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    return folder


def save_classifier(tiny: Tiny, folder: Path) -> Path:
    """Write a classifier with seeded random weights, as ``save_pretrained`` does."""
    from transformers import AutoConfig, AutoModelForImageClassification

    config = AutoConfig.from_pretrained(save_description(tiny, folder))
    config.architectures = [tiny.architecture] if tiny.architecture else []
    lively(AutoModelForImageClassification.from_config(config)).save_pretrained(folder)
    return folder
