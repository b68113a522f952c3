from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.overrides import _get_current_function_mode_stack

from ttame.backbone.attention_calls import AttentionCalls, join_heads, watching


class Keeping(AttentionCalls):
    def __init__(self):
        super().__init__()
        self.seen = []

    def see(self, attention):
        self.seen.append(attention)


def parts(queries=5, keys=5, heads=2):
    generator = torch.Generator().manual_seed(0)
    shapes = [(3, heads, queries, 4), (3, heads, keys, 4), (3, heads, keys, 4)]
    return [torch.randn(*shape, generator=generator) for shape in shapes]


MASKS = {
    "none": None,
    "added": torch.randn(5, 5, generator=torch.Generator().manual_seed(1)),
    "hidden": torch.rand(5, 5, generator=torch.Generator().manual_seed(2)) > 0.3,
    "per head": torch.randn(1, 2, 5, 5, generator=torch.Generator().manual_seed(3)),
    "per key": torch.randn(1, 1, 1, 5, generator=torch.Generator().manual_seed(4)),
}


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("scale", [None, 0.3])
def test_fused_attention_is_seen_and_not_changed(mask, scale):
    given = parts()
    expected = F.scaled_dot_product_attention(*given, attn_mask=MASKS[mask], scale=scale)
    with Keeping() as calls:
        found = F.scaled_dot_product_attention(*given, attn_mask=MASKS[mask], scale=scale)
    assert torch.equal(found, expected)
    (attention,) = calls.seen
    rows = attention.rows(slice(None))
    torch.testing.assert_close(rows @ attention.values(), expected)
    torch.testing.assert_close(attention.rows(slice(1, 3)), rows[:, :, 1:3])
    assert torch.equal(attention.mixed, join_heads(expected))


def test_groups_of_queries_share_their_keys():
    query, *_ = parts(heads=4)
    _, key, value = parts(heads=2)
    with Keeping() as calls:
        found = F.scaled_dot_product_attention(query, key, value, enable_gqa=True)
    (attention,) = calls.seen
    torch.testing.assert_close(attention.rows(slice(None)) @ attention.values(), found)


def test_written_out_attention_is_seen():
    query, key, value = parts()
    with Keeping() as calls:
        weights = (query @ key.transpose(-2, -1)).softmax(dim=-1)
        found = F.dropout(weights, 0.5, training=False) @ value
    (attention,) = calls.seen
    assert torch.equal(attention.rows(slice(2, 4)), weights[:, :, 2:4])
    assert torch.equal(attention.values(), value)
    assert torch.equal(attention.mixed, join_heads(found))


def test_a_cast_of_the_weights_is_followed():
    query, key, value = (part.bfloat16() for part in parts())
    with Keeping() as calls:
        weights = (query @ key.transpose(-2, -1)).softmax(dim=-1, dtype=torch.float32)
        found = weights.to(query.dtype) @ value
    (attention,) = calls.seen
    assert attention.rows(slice(None)).dtype == torch.bfloat16
    torch.testing.assert_close(attention.rows(slice(None)) @ attention.values(), found)


def test_an_exception_inside_a_watched_layer_leaves_no_trace():
    layer = nn.MultiheadAttention(8, 2, batch_first=True).eval()
    calls = Keeping()
    with pytest.raises(AssertionError), watching(nn.ModuleList([layer]), calls):
        layer(torch.randn(2, 5, 7), torch.randn(2, 5, 7), torch.randn(2, 5, 7))
    assert not layer._forward_hooks
    assert not layer._forward_pre_hooks
    assert not _get_current_function_mode_stack()
    with Keeping() as after:  # function modes work again
        F.scaled_dot_product_attention(*parts())
    assert len(after.seen) == 1


@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("width", [None, 8])
def test_multi_head_layers_are_seen_by_hooks_and_by_the_mode(batch_first, width):
    torch.manual_seed(0)
    layer = nn.MultiheadAttention(8, 2, batch_first=batch_first, kdim=width).eval()
    nn.init.normal_(layer.in_proj_bias)
    tokens = torch.randn(3, 5, 8) if batch_first else torch.randn(5, 3, 8)
    _, weights = layer(tokens, tokens, tokens, need_weights=True, average_attn_weights=False)
    model = nn.ModuleList([layer])
    watched, modal = Keeping(), Keeping()
    with torch.no_grad():
        expected, _ = layer(tokens, tokens, tokens, need_weights=False)
        with watching(model, watched):
            found, _ = layer(tokens, tokens, tokens, need_weights=False)
        with modal:
            layer(tokens, tokens, tokens, need_weights=False)
    assert torch.equal(found, expected)
    assert not layer._forward_hooks
    for calls in (watched, modal):
        (attention,) = calls.seen
        torch.testing.assert_close(attention.rows(slice(None)), weights)
        mixed = join_heads(attention.rows(slice(None)) @ attention.values())
        projected = layer.out_proj(mixed)
        torch.testing.assert_close(
            projected if batch_first else projected.transpose(0, 1), expected, rtol=1e-4, atol=1e-5
        )


def test_what_is_no_self_attention_between_tokens_is_passed_over():
    query, key, value = parts(queries=1)
    square = parts()
    with Keeping() as calls:
        F.scaled_dot_product_attention(query, key, value)  # one query: attention pooling
        F.scaled_dot_product_attention(*square, is_causal=True)
        torch.randn(3, 5).softmax(dim=-1)  # probabilities
    assert calls.seen == []


def test_the_mode_ends_with_the_context_even_after_an_exception():
    with pytest.raises(ZeroDivisionError), Keeping():
        raise ZeroDivisionError
    assert not _get_current_function_mode_stack()
