"""One contract for every family of classifiers, with random weights at small sizes."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from ttame.backbone.registry import load_backbone

# source, image size, default layers
FAMILIES: dict[str, tuple[int | tuple[int, int], tuple[str, ...]]] = {
    "timm/resnet18": (64, ("layer2", "layer3", "layer4")),
    "timm/tf_efficientnet_lite0": (64, ("blocks.2", "blocks.4", "bn2")),
    "timm/vit_tiny_patch16_224": ((32, 48), ("blocks.8", "blocks.10", "norm", "contributions")),
    "timm/deit_tiny_distilled_patch16_224": (48, ("blocks.8", "blocks.10", "norm")),
    "timm/vit_small_patch14_reg4_dinov2": (
        (42, 56),
        ("blocks.8", "blocks.10", "norm", "contributions"),
    ),
    "timm/mixer_s32_224": (64, ("blocks.5", "blocks.7", "norm")),
    "timm/swin_tiny_patch4_window7_224": ((64, 96), ("layers.1", "layers.2", "norm")),
    "timm/convnext_atto": (64, ("stages.1", "stages.2", "stages")),
    "timm/mobilenetv3_small_050": (64, ("blocks.1", "blocks.3", "blocks")),
    "timm/pvt_v2_b0": (64, ("stages.1", "stages.2", "stages")),
    "timm/vgg11": (64, ("features.14", "features.19", "features")),
    "torchvision/resnet18": (64, ("layer2", "layer3", "layer4")),
    "torchvision/vgg11": (64, ("features.14", "features.19", "features")),
    "torchvision/densenet121": (
        64,
        ("features.denseblock2", "features.denseblock3", "features"),
    ),
    "torchvision/swin_t": (64, ("features.3", "features.5", "permute")),
    "torchvision/vit_b_16": (
        48,
        (
            "encoder.layers.encoder_layer_8",
            "encoder.layers.encoder_layer_10",
            "encoder.ln",
            "contributions",
        ),
    ),
}
CLASSES = 7


def load(source: str, **more: Any) -> Any:
    more.setdefault("image_size", FAMILIES[source][0])
    return load_backbone(source, pretrained=False, num_classes=CLASSES, **more)


@pytest.mark.parametrize("source", FAMILIES)
def test_the_contract(source):
    backbone = load(source)
    assert backbone.layers == FAMILIES[source][1]
    height, width = backbone.preprocessing.crop
    images = torch.randn(1, 3, height, width)
    with torch.no_grad():
        logits, features = backbone(images)
    assert torch.equal(logits, backbone.module(images))
    assert logits.shape == (1, CLASSES)
    assert [tuple(f.shape[1:]) for f in features] == list(backbone.feature_shapes)
    for feature in features:
        rows, columns = feature.shape[2:]
        assert rows * width == columns * height
    listed = [*backbone.candidate_layers(), *backbone.computed_layers()]
    assert dict(listed).items() >= set(zip(backbone.layers, backbone.feature_shapes, strict=True))
    assert backbone.class_names is None
    assert backbone.class_weights.shape[0] == CLASSES
    assert backbone.recipe["source"] == source


@pytest.mark.parametrize(
    ("source", "size"),
    [
        ("timm/resnet18", (96, 64)),
        ("timm/convnext_atto", (96, 64)),
        ("timm/tf_efficientnet_lite0", (96, 64)),
        ("torchvision/swin_t", (64, 128)),
    ],
)
def test_other_input_sizes(source, size):
    backbone = load(source)
    with torch.no_grad():
        features = backbone(torch.randn(1, 3, *size)).features
    for feature in features:
        assert feature.shape[2] * size[1] == feature.shape[3] * size[0]


def test_other_input_sizes_of_a_transformer_that_allows_them():
    backbone = load("timm/vit_tiny_patch16_224", dynamic_img_size=True)
    with torch.no_grad():
        assert backbone(torch.randn(1, 3, 80, 48)).features[0].shape == (1, 192, 5, 3)


@pytest.mark.parametrize(
    ("source", "layers"),
    [
        ("timm/vit_tiny_patch16_224", "blocks.9,blocks.10,blocks.11"),
        ("timm/deit_tiny_distilled_patch16_224", "blocks.9,blocks.10,blocks.11"),
        ("timm/vit_small_patch14_reg4_dinov2", "blocks.9,blocks.10,blocks.11"),
        ("timm/swin_tiny_patch4_window7_224", "layers.1,layers.2,layers.3"),
        ("timm/resnet18", "layer2,layer3,layer4"),
        ("timm/convnext_atto", "stages.1,stages.2,stages.3"),
    ],
)
def test_features_equal_those_that_timm_computes(source, layers):
    backbone = load(source, layers=layers)
    images = torch.randn(2, 3, *backbone.preprocessing.crop)
    with torch.no_grad():
        features = backbone(images).features
        expected = backbone.module.forward_intermediates(
            images, indices=3, output_fmt="NCHW", intermediates_only=True
        )
    for ours, theirs in zip(features, expected, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_distilled_heads_are_averaged():
    backbone = load("timm/deit_tiny_distilled_patch16_224")
    expected = (backbone.module.head.weight + backbone.module.head_dist.weight) / 2
    torch.testing.assert_close(backbone.class_weights, expected)
