from __future__ import annotations

import pytest
import timm
import torch
from torch import nn

from tiny_transformers import KINDS, lively, timm_transformer, torchvision_transformer
from ttame.backbone.attention_paths import AttentionPaths


def paths_of(model, blocks, size=(32, 48)):
    paths = AttentionPaths()
    with torch.no_grad(), paths.through(blocks):
        model(torch.randn(2, 3, *size))
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    return paths.weights


@pytest.mark.parametrize("kind", KINDS)
def test_the_way_is_the_linear_layer_behind_the_attention(kind):
    model = timm_transformer(**KINDS[kind])
    for weight, block in zip(paths_of(model, model.blocks), model.blocks, strict=True):
        assert torch.equal(weight, block.attn.proj.weight)


def test_layer_scale_multiplies_its_rows():
    model = timm_transformer(init_values=0.5)
    for weight, block in zip(paths_of(model, model.blocks), model.blocks, strict=True):
        expected = block.ls1.gamma[:, None] * block.attn.proj.weight
        torch.testing.assert_close(weight, expected)


def test_torchvision_multi_head_attention():
    model = torchvision_transformer()
    found = paths_of(model, model.encoder.layers, (32, 32))
    for weight, block in zip(found, model.encoder.layers, strict=True):
        assert torch.equal(weight, block.self_attention.out_proj.weight)


def test_a_way_with_anything_else_on_it_is_none():
    model = timm_transformer()
    model.blocks[0].attn.norm = nn.LayerNorm(16)  # before the linear layer
    model.blocks[1].ls1 = nn.LayerNorm(16)  # behind it
    assert paths_of(model, model.blocks) == [None, None]


def test_a_factor_for_all_channels_is_no_layer_scale():
    class Gate(nn.Module):
        def forward(self, tokens):
            return tokens * tokens.mean(dim=1, keepdim=True)

    model = timm_transformer()
    model.blocks[1].ls1 = Gate()
    first, second = paths_of(model, model.blocks)
    assert first is not None
    assert second is None


def test_networks_without_attention_have_none():
    model = lively(timm.create_model("test_resnet", num_classes=3))
    assert paths_of(model, [model.layer4], (64, 64)) == []


class PostNorm(nn.Module):
    """A block whose sums are normalised, as in the first transformer."""

    def __init__(self, block):
        super().__init__()
        self.block = block

    def forward(self, tokens):
        tokens = self.block.norm1(tokens + self.block.attn(tokens))
        return self.block.norm2(tokens + self.block.mlp(tokens))


class Parallel(nn.Module):
    """A block that adds attention and MLP before it scales both."""

    def __init__(self, block):
        super().__init__()
        self.block = block
        self.scale = nn.Parameter(torch.full((16,), 0.5))

    def forward(self, tokens):
        normed = self.block.norm1(tokens)
        return tokens + self.scale * (self.block.attn(normed) + self.block.mlp(normed))


class Biased(nn.Module):
    """A block that adds something else than its input first, and its input then."""

    def __init__(self, block):
        super().__init__()
        self.block = block
        self.offset = nn.Parameter(torch.ones(16))

    def forward(self, tokens):
        return tokens + 2 * (self.block.attn(self.block.norm1(tokens)) + self.offset)


@pytest.mark.parametrize("kind", [PostNorm, Parallel, Biased])
def test_a_sum_that_is_no_skip_connection_to_the_end_is_none(kind):
    model = timm_transformer()
    model.blocks[1] = kind(model.blocks[1])
    first, second = paths_of(model, model.blocks)
    assert first is not None
    assert second is None
