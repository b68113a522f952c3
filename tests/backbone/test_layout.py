from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ttame.backbone.layout import Layout, plane_layout, to_map, token_grid, token_layout
from ttame.errors import BackboneError


@pytest.mark.parametrize(
    ("shape", "image", "order"),
    [
        ((1, 64, 56, 56), (224, 224), "channels_first"),
        ((1, 56, 56, 64), (224, 224), "channels_last"),
        ((1, 7, 8, 8), (64, 64), "channels_first"),
        ((1, 8, 8, 7), (64, 64), "channels_last"),
        ((1, 2, 3, 48), (32, 48), "channels_last"),
        ((1, 48, 2, 3), (32, 48), "channels_first"),
    ],
)
def test_plane_layout_follows_the_aspect_ratio(shape, image, order):
    assert plane_layout(shape, image) == (Layout(order), True)


@pytest.mark.parametrize("shape", [(1, 512, 1, 1), (1, 1, 1, 512), (1, 12, 197, 64)])
def test_vectors_and_attention_heads_are_no_planes(shape):
    assert plane_layout(shape, (224, 224))[0] is None


@pytest.mark.parametrize(
    ("tokens", "image", "planes", "declared", "prefix"),
    [
        (197, (224, 224), [(14, 14)], (), 1),
        (198, (224, 224), [(14, 14)], (), 2),
        (196, (224, 224), [(14, 14)], (1,), 0),
        (11, (32, 48), [(2, 3)], (), 5),
        (784, (224, 224), [(56, 56)], (), 0),  # merged patches
        (64, (64, 64), [(8, 8), (2, 2)], (), 0),  # the last plane is of reduced keys
        (17, (64, 64), [(8, 8), (4, 4), (2, 2)], (), 1),
        (197, (224, 224), [], (), 1),
        (201, (224, 224), [], (5,), 5),
    ],
)
def test_token_layout_finds_the_prefix(tokens, image, planes, declared, prefix):
    assert token_layout(tokens, image, planes, declared) == Layout("tokens", prefix)


@pytest.mark.parametrize(
    ("tokens", "planes"),
    [(1, [(14, 14)]), (768, [(14, 14)]), (1024, [(14, 14)]), (768, []), (3, [])],
)
def test_channels_are_not_taken_for_tokens(tokens, planes):
    assert token_layout(tokens, (224, 224), planes) is None


@given(st.integers(2, 40), st.integers(2, 40), st.sampled_from([8, 14, 16, 32]))
def test_token_grid_recovers_every_grid_of_square_patches(rows, columns, patch):
    assert token_grid(rows * columns, (rows * patch, columns * patch)) == (rows, columns)


def test_to_map_puts_every_token_in_its_place():
    tokens = torch.arange(2 * 8 * 3).reshape(2, 8, 3).float()
    result = to_map(tokens, Layout("tokens", 2), (20, 30))
    assert result.shape == (2, 3, 2, 3)
    for row in range(2):
        for column in range(3):
            assert torch.equal(result[:, :, row, column], tokens[:, 2 + row * 3 + column])


def test_to_map_moves_channels_first():
    output = torch.rand(2, 4, 5, 3)
    assert torch.equal(to_map(output, Layout("channels_last"), (4, 5)), output.permute(0, 3, 1, 2))
    assert to_map(output, Layout("channels_first"), (5, 3)) is output


def test_to_map_refuses_outputs_without_patches():
    with pytest.raises(BackboneError, match="more than 1 tokens"):
        to_map(torch.zeros(1, 1, 8), Layout("tokens", 1), (8, 8))
