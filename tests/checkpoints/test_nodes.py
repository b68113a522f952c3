from __future__ import annotations

import pytest
import torch
from torchvision.models import resnet18, vit_b_16
from torchvision.models.feature_extraction import create_feature_extractor

from ttame.backbone.hooks import listening
from ttame.checkpoints.nodes import module_of
from ttame.errors import StorageError, UnknownNameError


@pytest.fixture(scope="module")
def transformer():
    with torch.device("meta"):
        return vit_b_16()


@pytest.mark.parametrize(
    ("node", "module"),
    [
        ("encoder.layers.encoder_layer_9.ln", "encoder.layers.encoder_layer_9.ln_1"),
        # torchvision's second node of that kind, not the module of that name.
        ("encoder.layers.encoder_layer_9.ln_1", "encoder.layers.encoder_layer_9.ln_2"),
        ("encoder.layers.encoder_layer_9", "encoder.layers.encoder_layer_9"),
        ("encoder.ln", "encoder.ln"),
    ],
)
def test_nodes_of_a_transformer(transformer, node, module):
    assert module_of(transformer, node) == module


@pytest.mark.parametrize("node", ["layer2", "layer4.1.conv2", "layer3.0.bn1"])
def test_the_module_gives_what_the_feature_extractor_gives(node):
    model = resnet18().eval()
    images = torch.randn(1, 3, 64, 64)
    module = module_of(resnet18(), node)
    with torch.no_grad():
        expected = create_feature_extractor(model, [node])(images)[node]
        with listening(model, {module: True}) as outputs:
            model(images)
    assert torch.equal(outputs[module], expected)


def test_other_nodes_are_refused(transformer):
    with pytest.raises(StorageError, match="result of an operation"):
        module_of(transformer, "encoder.layers.encoder_layer_9.add_1")
    with pytest.raises(UnknownNameError, match=r"did you mean 'encoder\.ln'"):
        module_of(transformer, "encoder.lnn")
