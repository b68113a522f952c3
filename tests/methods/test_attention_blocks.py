from __future__ import annotations

import pytest
import timm
import torch
import torch.nn.functional as F
from torch import nn
from torch.overrides import _get_current_function_mode_stack

from references.slow_transformer import slow_attention
from tiny_backbone import tiny_backbone
from tiny_transformers import KINDS, as_backbone, lively, timm_transformer, transformer
from ttame.backbone.fingerprint import fingerprint
from ttame.errors import BackboneError
from ttame.methods.attention_blocks import Recording, attention_pass
from ttame.methods.attention_reading import reading, readout
from ttame.methods.explicit_attention import ExplicitAttention

ALL = [*KINDS, "torchvision"]


def photos(backbone, count=2):
    return torch.randn(count, 3, *backbone.preprocessing.crop)


@pytest.mark.parametrize("kind", KINDS)
def test_recorded_attention_equals_softmax_by_hand(kind):
    backbone = transformer(kind)
    images = photos(backbone)
    passed = attention_pass(backbone, images)
    expected = slow_attention(backbone.module, images)
    assert len(passed.attention) == len(expected) == 2
    for matrix, slow in zip(passed.attention, expected, strict=True):
        torch.testing.assert_close(matrix, slow.detach(), rtol=0, atol=1e-5)
    assert passed.attention[0].std() > 0.02  # far from uniform


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize("gradients", [False, True])
def test_logits_stay_and_rows_sum_to_1(kind, gradients):
    backbone = transformer(kind)
    images = photos(backbone)
    before = fingerprint(backbone.module)
    passed = attention_pass(backbone, images, gradients=gradients)
    torch.testing.assert_close(passed.logits, backbone.logits(images), rtol=0, atol=1e-5)
    for matrix in passed.attention:
        assert matrix.shape[:2] == (2, 2)
        torch.testing.assert_close(matrix.sum(dim=-1), torch.ones(matrix.shape[:3]))
    assert fingerprint(backbone.module) == before
    assert not any(module._forward_hooks for module in backbone.modules())
    assert all(p.grad is None and not p.requires_grad for p in backbone.parameters())


def test_torchvision_attention_equals_its_own_weights():
    backbone = transformer("torchvision")
    images = photos(backbone)
    inputs = []
    layer = backbone.module.encoder.layers[0].self_attention
    handle = layer.register_forward_pre_hook(lambda _, given: inputs.append(given[0]))
    passed = attention_pass(backbone, images)
    handle.remove()
    tokens = inputs[0].detach()
    _, weights = layer(tokens, tokens, tokens, need_weights=True, average_attn_weights=False)
    torch.testing.assert_close(passed.attention[0], weights, rtol=0, atol=1e-6)


def test_written_out_attention_is_recorded_like_fused():
    fused, plain = timm_transformer(), timm_transformer()
    for block in plain.blocks:
        block.attn.fused_attn = False
    images = torch.randn(2, 3, 32, 48)
    first = attention_pass(as_backbone(fused), images, gradients=True)
    second = attention_pass(as_backbone(plain), images, gradients=True)
    classes = torch.tensor([1, 4])
    for left, right in zip(first.attention, second.attention, strict=True):
        torch.testing.assert_close(left, right)
    for left, right in zip(first.gradients(classes), second.gradients(classes), strict=True):
        torch.testing.assert_close(left, right)


def test_gradients_equal_finite_differences():
    backbone = as_backbone(timm_transformer().double())
    images = torch.randn(1, 3, 32, 48, dtype=torch.float64)
    (gradient, _) = attention_pass(backbone, images, gradients=True).gradients(torch.tensor([2]))

    class Nudged(Recording):
        def see(self, weights):
            step = torch.zeros_like(weights)
            step[0, 1, 3, 7] = 1e-6 * (not self.seen)
            return super().see(weights + step)

    with Nudged(), torch.no_grad():
        moved = backbone.logits(images)
    change = (moved - backbone.logits(images))[0, 2] / 1e-6
    assert gradient[0, 1, 3, 7].abs() > 1e-5
    torch.testing.assert_close(change, gradient[0, 1, 3, 7], rtol=1e-3, atol=1e-7)


@pytest.mark.parametrize(
    ("kind", "prefix", "patches"),
    [
        ("class token", (True,), False),
        ("registers", (True, False, False, False), False),
        ("pooled", (), True),
        ("pooled beside a class token", (False,), True),
        ("torchvision", (True,), False),
    ],
)
def test_finds_which_tokens_are_read(kind, prefix, patches):
    backbone = transformer(kind)
    assert reading(backbone) == (prefix, patches, 2)
    passed = attention_pass(backbone, photos(backbone))
    row = readout(backbone, passed.attention[-1], passed.tokens)
    torch.testing.assert_close(row.sum(dim=1), torch.ones(2))
    assert (row[0, : len(prefix)] > 0).tolist() == list(prefix)
    assert ((row[0, len(prefix) :] > 0) == patches).all()


@pytest.mark.parametrize("causal", [False, True])
def test_masks_scales_and_grouped_heads_equal_fused_attention(causal):
    query, key, value = torch.randn(2, 4, 5, 3), torch.randn(2, 2, 5, 3), torch.randn(2, 2, 5, 3)
    allowed = torch.rand(5, 5) > 0.3
    allowed.fill_diagonal_(True)
    given = [{"is_causal": causal}] if causal else [
        {"attn_mask": allowed}, {"attn_mask": torch.randn(5, 5)}, {"scale": 0.3}
    ]  # fmt: skip
    for values in given:
        expected = F.scaled_dot_product_attention(query, key, value, enable_gqa=True, **values)
        with ExplicitAttention():
            came = F.scaled_dot_product_attention(query, key, value, enable_gqa=True, **values)
        torch.testing.assert_close(came, expected)


class Failing(nn.Module):
    def __init__(self):
        super().__init__()
        self.model = timm_transformer()
        self.broken = False

    def forward(self, images):
        logits = self.model(images)
        if self.broken:
            raise RuntimeError("on purpose")
        return logits


def test_nothing_stays_after_an_exception():
    backbone = as_backbone(Failing())
    images = photos(backbone)
    expected = backbone.logits(images)
    backbone.module.broken = True
    with pytest.raises(RuntimeError, match="on purpose"):
        attention_pass(backbone, images)
    backbone.module.broken = False
    assert not _get_current_function_mode_stack()
    assert torch.equal(backbone.logits(images), expected)


def test_says_why_a_classifier_has_no_attention_to_roll_out():
    cnn = tiny_backbone()
    with pytest.raises(BackboneError, match="no self-attention"):
        attention_pass(cnn, torch.randn(1, 3, 32, 32))
    swin = timm.create_model(
        "swin_tiny_patch4_window7_224", img_size=64, window_size=4, embed_dim=8,
        depths=(1, 1), num_heads=(2, 2), num_classes=3,
    )  # fmt: skip
    with pytest.raises(BackboneError, match="windows"):
        attention_pass(as_backbone(lively(swin), (64, 64)), torch.randn(1, 3, 64, 64))
    pooled = timm.create_model(
        "pvt_v2_b0", num_classes=3, embed_dims=(8,) * 4, depths=(1,) * 4, num_heads=(1,) * 4
    )
    with pytest.raises(BackboneError, match="coarser grid"):
        attention_pass(as_backbone(lively(pooled), (64, 64)), torch.randn(1, 3, 64, 64))
    with pytest.raises(BackboneError, match="names its layers"):
        attention_pass(nn.Identity(), torch.randn(1, 3, 8, 8))
    silent = timm_transformer()
    nn.init.zeros_(silent.head.weight)
    with pytest.raises(BackboneError, match="do not depend"):
        reading(as_backbone(silent))


def test_multi_head_attention_with_masks_is_refused():
    layer = nn.MultiheadAttention(4, 2).eval()
    tokens = torch.randn(3, 1, 4)
    with pytest.raises(BackboneError, match="cannot be recorded"), ExplicitAttention():
        layer(tokens, tokens, tokens, need_weights=False, attn_mask=torch.zeros(3, 3))
