"""Unrolled tokens, against what Hiera's own libraries say of their places."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from timm.models.hiera import Hiera, Unroll
from torch import nn

from tiny_huggingface import FAMILIES, save_classifier
from ttame.backbone.module import ModuleBackbone
from ttame.backbone.registry import load_backbone
from ttame.backbone.token_order import in_rows, unrolled_layers
from ttame.backbone.tokens import patch_tokens
from ttame.errors import BackboneError
from ttame.images.preprocessing import Preprocessing

STEPS = st.lists(st.tuples(st.integers(1, 3), st.integers(1, 3)), min_size=1, max_size=3)


@given(STEPS, st.integers(1, 3), st.integers(1, 3))
def test_in_rows_undoes_the_unrolling(steps, rows, columns):
    grid = (
        rows * math.prod(step[0] for step in steps),
        columns * math.prod(step[1] for step in steps),
    )
    planes = torch.arange(2 * 3 * math.prod(grid)).view(2, 3, *grid)
    tokens = Unroll(grid, (1, 1), steps)(planes.flatten(2).transpose(1, 2))
    assert torch.equal(in_rows(tokens, grid, steps), planes)


def tiny_hiera(q_pool: int = 3) -> nn.Module:
    torch.manual_seed(0)
    return Hiera(
        img_size=(64, 96), embed_dim=8, num_heads=1, stages=(1, 1, 2, 1), q_pool=q_pool,
        num_classes=5,
    ).eval()  # fmt: skip


@pytest.mark.parametrize("q_pool", [2, 3])
def test_layers_of_timms_hiera_are_where_timm_puts_them(q_pool):
    model = tiny_hiera(q_pool)
    ends = [f"blocks.{end}" for end in model.stage_ends]
    backbone = ModuleBackbone(model, Preprocessing(crop=(64, 96)), layers=ends)
    images = torch.randn(2, 3, 64, 96)
    expected = model.forward_intermediates(images, intermediates_only=True)
    for feature, reference in zip(backbone(images).features, expected, strict=True):
        assert torch.equal(feature, reference)


def test_tokens_before_the_unrolling_are_row_by_row():
    model = tiny_hiera()
    backbone = ModuleBackbone(model, Preprocessing(crop=(64, 96)), layers=["patch_embed"])
    images = torch.randn(1, 3, 64, 96)
    assert torch.equal(backbone(images).features[0], model.patch_embed.proj(images))


def test_layers_of_transformers_hiera_are_where_transformers_puts_them(tmp_path):
    pytest.importorskip("transformers")
    source = f"hf/{save_classifier(FAMILIES['hiera'], tmp_path / 'model')}"
    layers = [f"hiera.encoder.stages.{n}" for n in range(4)]
    backbone = load_backbone(source, layers=["hiera.embeddings.patch_embeddings", *layers])
    images = torch.randn(2, 3, 64, 64)
    embedded, *features = backbone(images).features
    model = backbone.module
    outputs = model(images, output_hidden_states=True)
    for feature, reference in zip(features, outputs.reshaped_hidden_states[1:], strict=True):
        assert torch.equal(feature, reference.permute(0, 3, 1, 2))
    projected = model.hiera.embeddings.patch_embeddings.projection(images)
    assert torch.equal(embedded, projected)


def test_attention_between_unrolled_tokens_is_refused():
    backbone = ModuleBackbone(tiny_hiera(), Preprocessing(crop=(64, 96)))
    with pytest.raises(BackboneError, match="window by window"):
        patch_tokens(backbone, 384, (64, 96))


@pytest.mark.parametrize("schedule", [3, {0: 0.5}, {0: ([(2, 2)], 7)}, {0: ([2], (4, 4))}])
def test_another_schedule_says_nothing(schedule):
    model = nn.Sequential(nn.Linear(2, 2))
    model.schedule = schedule
    assert unrolled_layers(model, ["unroll", "0"]) == {}


def test_only_the_network_with_the_schedule_is_unrolled_and_from_there_on():
    left = {(4, 4): ((2, 2),), (2, 2): ()}
    holder = nn.Identity()
    holder.schedule = {0: ([(2, 2)], [4, 4]), 1: ([], (2, 2))}
    model = nn.ModuleDict({"trunk": nn.ModuleDict({"reroll": holder}), "neck": nn.Identity()})
    called = ["trunk.embed", "trunk.unroll", "trunk.blocks.0", "trunk", "trunk2", "neck"]
    expected = dict.fromkeys(["trunk.unroll", "trunk.blocks.0", "trunk"], left)
    assert unrolled_layers(model, called) == expected
    # Told by the network itself, and by a module whose layers are the unrolled ones.
    model.schedule = holder.schedule
    del holder.schedule
    assert list(unrolled_layers(model, ["embed", "unroll", "block"])) == ["unroll", "block"]
    encoder = nn.ModuleDict({"stages": nn.Identity()})
    encoder.schedule = model.schedule
    whole = nn.ModuleDict({"encoder": encoder})
    called = ["embed", "encoder.stages", "encoder"]
    assert list(unrolled_layers(whole, called)) == called[1:]
