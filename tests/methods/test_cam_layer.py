from __future__ import annotations

import pytest
import timm
import torch

from tiny_backbone import tiny_backbone
from ttame.backbone.module import ModuleBackbone
from ttame.errors import BackboneError
from ttame.images.preprocessing import Preprocessing
from ttame.methods.cam_layer import gradient_layer, layer_details


def test_a_vision_transformer_uses_the_last_layer_that_has_a_gradient():
    model = timm.create_model("test_vit", pretrained=False, num_classes=4)
    torch.nn.init.normal_(model.head.weight)
    backbone = ModuleBackbone(model, Preprocessing(crop=(160, 160), resize=None))
    assert layer_details(backbone) == {"layer": None}
    with torch.inference_mode():
        assert gradient_layer(backbone) == "blocks.5.norm1"
    assert layer_details(backbone) == {"layer": "blocks.5.norm1"}


def test_the_last_feature_map_is_used_where_it_has_a_gradient():
    backbone = tiny_backbone()
    assert gradient_layer(backbone) == "2"
    assert gradient_layer(backbone.with_layers(("0", "1"))) == "1"
    assert not any(module._forward_hooks for module in backbone.modules())


def test_a_classifier_that_does_not_read_its_map_is_refused():
    backbone = tiny_backbone()
    backbone.module[5].weight.zero_()
    with pytest.raises(BackboneError, match="no class logit has a gradient"):
        gradient_layer(backbone)
