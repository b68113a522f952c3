from __future__ import annotations

import pytest

from tiny_backbone import tiny_backbone
from tiny_transformers import transformer
from ttame.backbone.tokens import patch_tokens, token_blocks
from ttame.errors import BackboneError


@pytest.mark.parametrize(
    ("kind", "prefix"),
    [("class token", 1), ("registers", 4), ("pooled", 0), ("pooled beside a class token", 1)],
)
def test_finds_prefix_and_grid(kind, prefix):
    backbone = transformer(kind)
    assert patch_tokens(backbone, prefix + 24, (32, 48)) == (prefix, (4, 6))
    # Another input size has another number of patches, but the same prefix.
    assert patch_tokens(backbone, prefix + 32, (32, 64)) == (prefix, (4, 8))
    with pytest.raises(BackboneError, match="no grid of patches"):
        patch_tokens(backbone, prefix + 29, (32, 48))


def test_finds_the_blocks():
    assert token_blocks(transformer("class token"), 2) == ("blocks.0", "blocks.1")
    layers = token_blocks(transformer("torchvision"), 2)
    assert layers == ("encoder.layers.encoder_layer_0", "encoder.layers.encoder_layer_1")
    with pytest.raises(BackboneError, match="3 transformer blocks"):
        token_blocks(transformer("class token"), 3)


def test_a_convolutional_network_has_neither():
    with pytest.raises(BackboneError):
        patch_tokens(tiny_backbone(), 16, (32, 32))
    with pytest.raises(BackboneError):
        token_blocks(tiny_backbone(), 2)
