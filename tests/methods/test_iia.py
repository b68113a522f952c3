from __future__ import annotations

import pytest
import torch
from torch import nn

from tiny_backbone import tiny_backbone, tiny_classifier
from tiny_transformers import as_backbone, timm_transformer
from ttame.backbone.fingerprint import fingerprint
from ttame.errors import BackboneError, InputError
from ttame.methods.attention_blocks import Recording
from ttame.methods.iia import iia
from ttame.methods.registry import get_method


def slow_iia(model, last, images, classes, steps):
    """The double integral at the output of ``model[last]``: one point at a time."""
    rows = []
    for image, chosen in zip(images, classes.tolist(), strict=True):
        maps = []
        for index in chosen:
            total = 0
            for i in range(1, steps + 1):
                low = image.amin(dim=(1, 2), keepdim=True)
                u = model[: last + 1]((low + i / steps * (image - low))[None])
                r = u.amin(dim=(2, 3), keepdim=True)
                for j in range(1, steps + 1):
                    v = (r + j / steps * (u - r)).detach().requires_grad_()
                    logit = model[last + 1 :](v.clone())[0, index]
                    (gradient,) = torch.autograd.grad(logit, v)
                    total = total + ((u - r) * v.detach() * gradient)[0].sum(dim=0)
            maps.append(total.detach() / steps**2)
        rows.append(torch.stack(maps))
    return torch.stack(rows)


@pytest.mark.parametrize("layer", [1, 2])
@pytest.mark.parametrize("crop", [(32, 32), (24, 40)])
def test_equals_the_double_integral_written_by_hand(layer, crop):
    backbone = tiny_backbone(crop).with_layers((str(layer),))
    before = fingerprint(backbone.module)
    images = torch.randn(3, 3, *crop)
    classes = torch.tensor([[0, 4], [1, 2], [3, 3]])
    maps = iia(backbone, images, classes, steps=3)
    expected = slow_iia(backbone.module, layer, images, classes, steps=3)
    scale = expected.abs().amax()
    torch.testing.assert_close(maps / scale, expected / scale, rtol=0, atol=1e-5)
    assert fingerprint(backbone.module) == before
    assert not any(module._forward_hooks for module in backbone.modules())


class Scaled(Recording):
    """Multiplies the second block's attention with a number."""

    def __init__(self, factor):
        super().__init__(gradients=True)
        self.factor = factor

    def see(self, weights):
        return super().see(weights * self.factor if self.seen else weights)


def test_transformers_equal_one_point_at_a_time():
    backbone = as_backbone(timm_transformer())
    images, steps = torch.randn(1, 3, 32, 48), 3
    low = images.amin(dim=(2, 3), keepdim=True)
    total = 0
    for i in range(1, steps + 1):
        products = [0, 0]
        for j in range(1, steps + 1):
            with Scaled(j / steps) as recording:
                logits = backbone.logits(low + i / steps * (images - low))
            gradients = torch.autograd.grad(logits[0, 2], recording.seen)
            for block, (a, g) in enumerate(zip(recording.seen, gradients, strict=True)):
                products[block] = products[block] + (a * g).detach() / steps
        matrix = torch.eye(25)
        for product in products:
            step = product.clamp(min=0).mean(dim=1)[0] + torch.eye(25)
            matrix = (step / step.sum(dim=1, keepdim=True)) @ matrix
        total = total + matrix[0, 1:] / steps
    maps = iia(backbone, images, torch.tensor([[2]]), steps)
    torch.testing.assert_close(maps.flatten(), total, rtol=0, atol=1e-5)


class Counting(nn.Module):
    """Its head relies on the number of images that came in."""

    def __init__(self):
        super().__init__()
        self.model = tiny_classifier()

    def forward(self, images):
        features = self.model[:3](images)
        return self.model[5](features.reshape(len(images), 16, -1).mean(dim=2))


def test_a_classifier_that_counts_its_images_is_refused_with_the_reason():
    backbone = as_backbone(Counting(), (32, 32))
    with pytest.raises(BackboneError, match="3 outputs of a layer at once"):
        iia(backbone, torch.randn(2, 3, 32, 32), torch.tensor([[0], [1]]), steps=3)
    assert not any(module._forward_hooks for module in backbone.modules())


def test_leaves_no_hooks_after_an_error():
    backbone = tiny_backbone()
    with pytest.raises((InputError, RuntimeError, IndexError)):
        iia(backbone, torch.randn(1, 3, 32, 32), torch.tensor([[99]]))
    assert not any(module._forward_hooks for module in backbone.modules())


def test_what_is_told_does_not_depend_on_what_ran_before():
    vit, cnn = as_backbone(timm_transformer()), tiny_backbone()
    for backbone, size in ((vit, (32, 48)), (cnn, (32, 32))):
        images, classes = torch.randn(1, 3, *size), torch.tensor([[1]])
        method = get_method("iia", steps=2)
        method(backbone, images, classes)
        alone = dict(method.details(backbone))
        get_method("gradcam")(backbone, images, classes)
        assert dict(method.details(backbone)) == alone
    assert dict(method.details(vit)) == {"attention_blocks": 2}
    assert dict(method.details(cnn)) == {"layer": "2"}
