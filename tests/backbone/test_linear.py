from __future__ import annotations

import torch
from torch import Tensor, nn

from ttame.backbone.module import ModuleBackbone
from ttame.images.preprocessing import Preprocessing

SMALL = Preprocessing(crop=(8, 8))


class Net(nn.Module):
    def __init__(self, *heads: nn.Module) -> None:
        super().__init__()
        self.body = nn.Conv2d(3, 6, 3)
        self.heads = nn.ModuleList(heads)

    def forward(self, images: Tensor) -> Tensor:
        pooled = self.body(images).mean(dim=(2, 3))
        return torch.stack([head(pooled) for head in self.heads]).mean(dim=0)


def test_class_weights_are_the_rows_of_the_last_layer():
    head = nn.Linear(6, 4)
    weights = ModuleBackbone(Net(head), SMALL).class_weights
    assert weights is not None
    assert torch.equal(weights, head.weight)
    assert not weights.requires_grad


def test_two_averaged_heads_give_averaged_weights():
    one, two = nn.Linear(6, 4), nn.Linear(6, 4)
    weights = ModuleBackbone(Net(one, two), SMALL).class_weights
    assert weights is not None
    torch.testing.assert_close(weights, (one.weight + two.weight) / 2)


def test_a_convolution_as_last_layer():
    convolution = nn.Conv2d(6, 4, 1)
    model = nn.Sequential(nn.Conv2d(3, 6, 3), nn.AdaptiveAvgPool2d(1), convolution)
    weights = ModuleBackbone(model, SMALL).class_weights
    assert weights is not None
    assert torch.equal(weights, convolution.weight[:, :, 0, 0])


def test_no_last_linear_layer_gives_no_weights():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    assert ModuleBackbone(model, SMALL).class_weights is None
