from __future__ import annotations

import timm
import torch
from torch import nn

from tiny_transformers import KINDS, lively, timm_transformer, torchvision_transformer
from ttame.backbone.attention_paths import AttentionPaths


def paths_of(model, size=(32, 48)):
    with torch.no_grad(), AttentionPaths() as paths:
        model(torch.randn(2, 3, *size))
    return paths


def test_the_way_is_the_linear_layer_behind_the_attention():
    for values in KINDS.values():
        model = timm_transformer(**values)
        paths = paths_of(model)
        assert len(paths.weights) == 2
        for weight, block in zip(paths.weights, model.blocks, strict=True):
            assert torch.equal(weight, block.attn.proj.weight)
        assert set(paths.tokens) == {24 + model.num_prefix_tokens}


def test_layer_scale_multiplies_its_rows():
    model = timm_transformer(init_values=0.5)
    for weight, block in zip(paths_of(model).weights, model.blocks, strict=True):
        expected = block.ls1.gamma[:, None] * block.attn.proj.weight
        torch.testing.assert_close(weight, expected)


def test_torchvision_multi_head_attention():
    model = torchvision_transformer()
    found = paths_of(model, (32, 32)).weights
    for weight, block in zip(found, model.encoder.layers, strict=True):
        assert torch.equal(weight, block.self_attention.out_proj.weight)


def test_a_way_with_anything_else_on_it_is_none():
    model = timm_transformer()
    model.blocks[0].attn.norm = nn.LayerNorm(16)  # before the linear layer
    model.blocks[1].ls1 = nn.LayerNorm(16)  # behind it
    assert paths_of(model).weights == [None, None]


def test_a_factor_for_all_channels_is_no_layer_scale():
    class Gate(nn.Module):
        def forward(self, tokens):
            return tokens * tokens.mean(dim=1, keepdim=True)

    model = timm_transformer()
    model.blocks[1].ls1 = Gate()
    first, second = paths_of(model).weights
    assert first is not None
    assert second is None


def test_networks_without_attention_have_none():
    model = lively(timm.create_model("test_resnet", num_classes=3))
    assert paths_of(model, (64, 64)).weights == []
