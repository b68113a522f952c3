from __future__ import annotations

from functools import reduce

import pytest
import timm
import torch
import torch.nn.functional as F
from torch import nn
from torch.overrides import _get_current_function_mode_stack

import ttame
from references.slow_contributions import slow_contributions
from tiny_backbone import tiny_backbone
from tiny_families import swin
from tiny_transformers import (
    KINDS,
    as_backbone,
    lively,
    timm_transformer,
    torchvision_transformer,
    transformer,
)
from ttame.backbone.contributions import CONTRIBUTIONS, mixing, unit_maps
from ttame.backbone.fingerprint import fingerprint
from ttame.backbone.probe import probe_images
from ttame.errors import BackboneError, UnknownNameError
from ttame.methods.cam_layer import gradient_layer
from ttame.metrics.randomisation import layers_from_the_top, randomised_copy

SIZE = (32, 48)


def backbone_of(kind="class token", **values):
    """A transformer of 4 blocks, of which the last 3 count."""
    return as_backbone(timm_transformer(depth=4, **{**KINDS[kind], **values}))


def photos(count=2, size=SIZE):
    return torch.randn(count, 3, *size, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("kind", ["class token", "registers"])
@pytest.mark.parametrize("values", [{}, {"init_values": 0.5}], ids=["plain", "layer scale"])
def test_equals_the_sum_token_by_token(kind, values):
    backbone = backbone_of(kind, **values)
    images = photos()
    found = backbone(images).features[-1]
    probed = probe_images(SIZE, 3, backbone)
    slow = slow_contributions(backbone.module, images, probed, first=1)
    assert backbone.layers[-1] == CONTRIBUTIONS
    assert found.shape == (2, 16, 4, 6)
    torch.testing.assert_close(
        found, unit_maps(slow.view(2, 16, 4, 6)).detach(), rtol=1e-3, atol=1e-4
    )


def test_mixing_by_hand():
    before = torch.tensor([[[1.0, 0.0], [0.0, 1.0]]])
    attention = torch.tensor([[[[0.5, 0.5], [0.0, 1.0]]]])
    values, path = torch.tensor([[[[1.0], [2.0]]]]), torch.tensor([[1.0], [0.0]])
    after = torch.tensor([[[2.5, 0.0], [2.0, 1.0]]])  # before + attention @ values along path
    kept, taken = mixing(before, after, attention, values, path)
    torch.testing.assert_close(kept, torch.tensor([[0.4, 0.2]]))
    torch.testing.assert_close(taken, torch.tensor([[[0.2, 0.4], [0.0, 0.8]]]))
    large = (300 * torch.ones(1, 2, 8)).half()
    wide, ways = (30 * torch.ones(1, 1, 2, 8)).half(), torch.eye(8).half()
    kept, taken = mixing(large, large, attention.half(), wide, ways)
    torch.testing.assert_close(kept + taken.sum(dim=-1), torch.ones(1, 2).half(), atol=2e-3, rtol=0)
    # What points away from what the token became is no part of it.
    kept, taken = mixing(before, after, attention, -values, path)
    assert torch.equal(kept, torch.ones(1, 2))
    assert torch.equal(taken, torch.zeros(1, 2, 2))


def test_the_ways_of_computing_attention_agree():
    fused, plain = timm_transformer(depth=4), timm_transformer(depth=4)
    for block in plain.blocks:
        block.attn.fused_attn = False
    first, second = (as_backbone(model)(photos()).features[-1] for model in (fused, plain))
    torch.testing.assert_close(first, second, rtol=1e-4, atol=1e-5)


def test_torchvision_and_timm_agree_on_the_same_weights():
    theirs = torchvision_transformer()
    ours = timm_transformer((32, 32), depth=2, mlp_ratio=2)
    copies = dict(theirs.named_parameters())
    with torch.no_grad():
        ours.cls_token.copy_(copies["class_token"])
        ours.pos_embed.copy_(copies["encoder.pos_embedding"])
        for name, parameter in ours.named_parameters():
            theirs_name = reduce(lambda text, pair: text.replace(*pair), TIMM_TO_TORCHVISION, name)
            if theirs_name in copies:
                parameter.copy_(copies[theirs_name])
        for block in ours.blocks:
            block.norm1.eps = block.norm2.eps = 1e-6
    images = photos(size=(32, 32))
    first, second = (as_backbone(model, (32, 32))(images) for model in (ours, theirs))
    torch.testing.assert_close(first.logits, second.logits, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(first.features[-1], second.features[-1], rtol=1e-3, atol=1e-4)


TIMM_TO_TORCHVISION = [
    ("patch_embed.proj", "conv_proj"),
    ("blocks.", "encoder.layers.encoder_layer_"),
    ("norm1", "ln_1"),
    ("norm2", "ln_2"),
    ("attn.qkv.weight", "self_attention.in_proj_weight"),
    ("attn.qkv.bias", "self_attention.in_proj_bias"),
    ("attn.proj", "self_attention.out_proj"),
    ("mlp.fc1", "mlp.0"),
    ("mlp.fc2", "mlp.3"),
    ("norm.", "encoder.ln."),
    ("head.", "heads.head."),
]


@torch.no_grad()
def test_without_what_lies_between_it_is_the_logit_itself():
    """With one block that counts, no MLP and no norm, shares of all patches make up the logit."""
    model = timm_transformer(depth=1)
    model.norm = nn.Identity()
    for parameter in model.blocks[0].mlp.parameters():
        nn.init.zeros_(parameter)
    backbone = as_backbone(model, SIZE)
    images = photos(1)
    feature = backbone(images).features[-1]
    block, tokens = model.blocks[0], model._pos_embed(model.patch_embed(images))
    attended = block.attn(block.norm1(tokens))[0, 0] - block.attn.proj.bias
    brought = model.head.weight @ (attended - _class_token_share(block, tokens[0]))
    summed = model.head.weight @ feature[0].sum(dim=(1, 2))
    # Every map is scaled to a root mean square of 1.
    torch.testing.assert_close(summed / summed.norm(), brought / brought.norm())


def _class_token_share(block, tokens):
    """What the class token brings to itself."""
    query, key, value = block.attn.qkv(block.norm1(tokens)).chunk(3, dim=1)
    width = tokens.shape[1] // block.attn.num_heads
    parts = []
    for head in range(block.attn.num_heads):
        at = slice(head * width, (head + 1) * width)
        paid = (query[0, at] @ key[:, at].T / width**0.5).softmax(dim=0)[0]
        parts.append(paid * value[0, at])
    return block.attn.proj.weight @ torch.cat(parts)


@pytest.mark.parametrize(
    "make",
    [backbone_of, lambda: as_backbone(torchvision_transformer(), (32, 32))],
    ids=["timm", "torchvision"],
)
def test_looking_leaves_no_trace(make):
    backbone = make()
    images = photos(size=backbone.preprocessing.crop)
    before = fingerprint(backbone.module)
    with torch.no_grad():
        output = backbone(images)
        assert torch.equal(output.logits, backbone.module(images))
    assert fingerprint(backbone.module) == before == backbone.identity.fingerprint
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in backbone.modules())
    assert not _get_current_function_mode_stack()
    assert not any(p.requires_grad for p in backbone.parameters())
    with pytest.raises(ttame.TtameError):
        backbone(torch.zeros(1, 3, 7, 7))
    assert not _get_current_function_mode_stack()


def test_does_not_depend_on_the_batch_and_follows_the_input_size():
    backbone = as_backbone(timm_transformer(depth=4, dynamic_img_size=True))
    images = photos(3)
    together = backbone(images).features[-1]
    alone = torch.cat([backbone(image[None]).features[-1] for image in images])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)
    assert backbone(photos(1, (64, 32))).features[-1].shape == (1, 16, 8, 4)


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (tiny_backbone, "no tokens"),
        (swin, "blocks of tokens that lie row by row"),
        (lambda: as_backbone(timm_transformer(num_classes=0)), "one final linear layer"),
        (lambda: transformer("pooled"), "reads its patches"),
        (lambda: transformer("pooled beside a class token"), "reads its patches"),
    ],
    ids=["CNN", "windows", "no classifier", "pooled", "pooled beside a class token"],
)
def test_a_classifier_without_it_says_why(make, why):
    backbone = make()
    assert CONTRIBUTIONS not in backbone.layers
    assert backbone.computed_layers() == []
    assert backbone.plain_layers == ()
    with pytest.raises(BackboneError, match=why):
        backbone.with_layers([CONTRIBUTIONS])


def test_attention_that_is_normalised_before_its_linear_layer_is_no_such_sum():
    model = timm.create_model(
        "vit_tiny_patch16_224", img_size=SIZE, depth=2, embed_dim=16, num_heads=2, patch_size=8,
        num_classes=5,
    )  # fmt: skip
    for block in model.blocks:
        block.attn.norm = nn.LayerNorm(16)
    backbone = as_backbone(lively(model))
    assert CONTRIBUTIONS not in backbone.layers
    with pytest.raises(BackboneError, match="not the input of a linear layer"):
        backbone.with_layers([CONTRIBUTIONS])


class Wrapped(nn.Module):
    """A classifier around another one."""

    def __init__(self, model):
        super().__init__()
        self.model = model


class WithoutGradient(Wrapped):
    @torch.no_grad()
    def forward(self, images):
        return self.model(images)


class Named(nn.Linear):
    """A linear layer that names its arguments."""

    def forward(self, tokens):
        return F.linear(input=tokens, weight=self.weight, bias=self.bias)


def test_a_classifier_that_cannot_be_followed_loads_all_the_same():
    backbone = as_backbone(WithoutGradient(timm_transformer()))
    assert CONTRIBUTIONS not in backbone.layers
    with pytest.raises(BackboneError, match="no gradient"):
        backbone.with_layers([CONTRIBUTIONS])


def test_named_arguments_are_followed():
    plain, named = timm_transformer(depth=4), timm_transformer(depth=4)
    for block in named.blocks:
        block.attn.proj.__class__ = Named
    first, second = (as_backbone(model)(photos()).features[-1] for model in (plain, named))
    torch.testing.assert_close(first, second)


def test_a_class_token_beside_pooled_patches_is_read_alone():
    class Both(Wrapped):
        def __init__(self, model):
            super().__init__(model)
            self.head = nn.Linear(32, 5)

        def forward(self, images):
            tokens = self.model.forward_features(images)
            return self.head(torch.cat([tokens[:, 0], tokens[:, 1:].mean(dim=1)], dim=1))

    torch.manual_seed(0)
    model = timm_transformer(depth=4)
    backbone = as_backbone(Both(model))
    images = photos()
    feature = backbone(images).features[-1]
    alone = as_backbone(model)(images).features[-1]
    assert feature.shape[1] == 32
    assert not feature[:, 16:].any()
    torch.testing.assert_close(feature[:, :16], alone * 2**0.5, rtol=1e-3, atol=1e-4)


def test_a_submodule_of_that_name_goes_first():
    model = nn.Sequential()
    model.add_module(CONTRIBUTIONS, nn.Conv2d(3, 4, 3))
    model.add_module("pool", nn.AdaptiveAvgPool2d(1))
    model.add_module("flat", nn.Flatten())
    model.add_module("fc", nn.Linear(4, 2))
    backbone = as_backbone(model)
    images = photos()
    assert backbone.plain_layers == ()
    torch.testing.assert_close(
        backbone.with_layers([CONTRIBUTIONS])(images).features[0], model[0](images)
    )


def test_low_precision_gives_nearly_the_same():
    for fused in (True, False):
        model = timm_transformer(depth=4)
        for block in model.blocks:
            block.attn.fused_attn = fused
        backbone = as_backbone(model)
        images = photos()
        exact = backbone(images).features[-1]
        with torch.autocast("cpu", torch.bfloat16):
            cast = backbone(images).features[-1]
        assert float((cast.float() - exact).abs().mean()) < 0.05
        low = backbone.to(torch.bfloat16)(images.to(torch.bfloat16)).features[-1]
        assert low.dtype == torch.bfloat16
        assert float((low.float() - exact).abs().mean()) < 0.05
    assert torch.equal(unit_maps(torch.zeros(1, 2, 3, 3).half()), torch.zeros(1, 2, 3, 3).half())


def test_prepared_under_inference_mode_it_takes_part_in_gradients_later():
    backbone = backbone_of()
    with torch.inference_mode():
        backbone.weights_changed()
    images = photos().requires_grad_()
    backbone(images).features[-1].square().mean().backward()
    assert images.grad is not None


def test_the_class_activation_methods_find_the_same_layer_without_it():
    backbone = backbone_of()
    alone = backbone.with_layers([CONTRIBUTIONS])
    assert gradient_layer(alone) == gradient_layer(backbone)
    with pytest.raises(BackboneError, match="multiplies tokens"):
        alone.with_class_token_product()


def test_it_is_chosen_like_any_layer():
    backbone = backbone_of()
    assert backbone.plain_layers == (len(backbone.layers) - 1,)
    other = backbone.with_layers([CONTRIBUTIONS, "norm"])
    images = photos()
    assert other.plain_layers == (0,)
    assert torch.equal(other(images).features[0], backbone(images).features[-1])
    with pytest.raises(UnknownNameError, match="contributions"):
        backbone.with_layers(["contribution"])


@pytest.mark.parametrize("head", ["shared", "tied", "independent"])
def test_an_explainer_over_it_is_stored_and_loaded(tmp_path, head):
    torch.manual_seed(0)
    backbone = backbone_of()
    explainer = ttame.new_explainer(backbone, head=head, unit_cells=True)
    explainer.save(tmp_path)
    again = ttame.load(tmp_path, backbone=backbone.module)
    images = photos()
    assert again.backbone.layers == backbone.layers
    torch.testing.assert_close(explainer(images, [1, 2]).maps, again(images, [1, 2]).maps)


def test_the_shared_head_starts_as_the_class_activation_map_of_the_contributions():
    backbone = backbone_of()
    explainer = ttame.new_explainer(backbone, head="shared", unit_cells=True)
    images = photos()
    maps = explainer(images, [1, 2]).maps[:, 0]
    rows = explainer.attention.head.directions[[1, 2]]
    expected = torch.einsum("bchw,bc->bhw", backbone(images).features[-1], rows)
    torch.testing.assert_close(maps, expected, rtol=1e-4, atol=1e-5)


def test_a_changed_copy_is_read_by_its_own_weights():
    backbone = backbone_of()
    copied = randomised_copy(backbone, layers_from_the_top(backbone))
    images = photos()
    fresh = as_backbone(copied.module)
    torch.testing.assert_close(copied(images).features[-1], fresh(images).features[-1])
    assert not torch.allclose(copied(images).features[-1], backbone(images).features[-1], atol=0.1)


def test_gradients_reach_the_mechanism_and_not_the_classifier():
    backbone = backbone_of()
    explainer = ttame.new_explainer(backbone, head="shared", unit_cells=True)
    with torch.no_grad():
        output = backbone(photos())
    explainer.attention(output.features, torch.tensor([[0], [1]])).square().sum().backward()
    assert explainer.attention.head.shared.grad.abs().sum() > 0
    assert all(p.grad is None for p in backbone.parameters())
