from __future__ import annotations

import pytest
import torch

from references.slow_gradcam import slow_gradcam
from tiny_backbone import tiny_backbone
from ttame.backbone.fingerprint import fingerprint
from ttame.errors import InputError
from ttame.masking import minmax
from ttame.methods.gradcam import gradcam

pytest.importorskip("pytorch_grad_cam")


@pytest.mark.parametrize("layer", [0, 1, 2])
@pytest.mark.parametrize("crop", [(32, 32), (24, 40)])
def test_equals_grad_cam_written_by_hand(layer, crop):
    backbone = tiny_backbone(crop).with_layers((str(layer),))
    images = torch.randn(3, 3, *crop)
    classes = torch.tensor([[0, 4], [1, 2], [3, 3]])
    maps = minmax(gradcam(backbone, images, classes))
    expected = slow_gradcam(backbone.module, layer, images, classes)
    assert maps.shape == expected.shape
    assert expected.amax() == 1
    torch.testing.assert_close(maps, expected, rtol=0, atol=1e-4)


def test_leaves_no_trace_and_works_under_inference_mode():
    backbone = tiny_backbone()
    before = fingerprint(backbone.module)
    with torch.inference_mode():
        images = torch.randn(2, 3, 32, 32)
        classes = torch.tensor([[0], [1]])
        maps = gradcam(backbone, images, classes)
    assert maps.shape == (2, 1, 4, 4)
    assert fingerprint(backbone.module) == before
    for module in backbone.modules():
        assert not module.training
        assert not module._forward_hooks
        assert not module._backward_hooks
    for parameter in backbone.parameters():
        assert not parameter.requires_grad
        assert parameter.grad is None


def test_errors_come_through_and_leave_no_hooks():
    backbone = tiny_backbone()
    images, classes = torch.randn(1, 3, 32, 32), torch.tensor([[0]])
    gradcam(backbone, images, classes)
    with pytest.raises(IndexError):
        gradcam(backbone, images, torch.tensor([[99]]))
    with pytest.raises(InputError, match="3, H, W"):
        gradcam(backbone, images[:, :2], classes)
    assert not any(module._forward_hooks for module in backbone.modules())
