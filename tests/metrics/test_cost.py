from __future__ import annotations

import pytest
import torch
from torch import nn

from tiny_backbone import tiny_backbone
from ttame.backbone.module import ModuleBackbone
from ttame.errors import InputError
from ttame.explainer import new_explainer
from ttame.images.preprocessing import Preprocessing
from ttame.methods.registry import Method, get_method
from ttame.methods.ttame import ttame_method
from ttame.metrics.cost import Passes, count_passes, measure_cost


def hooks(backbone):
    return [
        hook
        for module in backbone.modules()
        for hook in (*module._forward_hooks, *module._forward_pre_hooks, *module._backward_hooks)
    ]


def test_ttame_costs_one_forward_pass():
    backbone = tiny_backbone()
    method = ttame_method(new_explainer(backbone))
    with count_passes(backbone) as passes:
        method(backbone, torch.randn(3, 3, 32, 32), torch.tensor([[0, 1]] * 3))
    assert passes == Passes(forward=3, backward=0)
    assert not hooks(backbone)


@pytest.mark.parametrize("classes", [1, 2])
def test_gradcam_costs_one_forward_and_one_backward_pass_a_class(classes):
    pytest.importorskip("pytorch_grad_cam")
    backbone, method = tiny_backbone(), get_method("gradcam")
    images, chosen = torch.randn(4, 3, 32, 32), torch.arange(classes).expand(4, -1)
    method(backbone, images, chosen)  # finds its layer once per classifier
    with count_passes(backbone) as passes:
        method(backbone, images, chosen)
    assert passes == Passes(forward=4 * classes, backward=4 * classes)
    assert not hooks(backbone)


def test_every_backward_call_counts_and_gradients_of_other_things_do_not():
    backbone = tiny_backbone()
    images = torch.randn(2, 3, 32, 32, requires_grad=True)
    with count_passes(backbone) as passes:
        output = backbone(images)
        torch.autograd.grad(output.logits[:, 0].sum(), images, retain_graph=True)
        torch.autograd.grad(output.logits[:, 1].sum(), output.features[-1], retain_graph=True)
        (images**2).sum().backward()
    assert passes == Passes(forward=2, backward=4)
    output.logits.sum().backward()  # after the context: not counted, and not an error
    assert passes.backward == 4


def test_nothing_stays_after_an_exception():
    backbone = tiny_backbone()
    images = torch.randn(1, 3, 32, 32, requires_grad=True)
    seen = []

    def fails():
        with count_passes(backbone) as passes:
            seen.extend([passes, backbone.logits(images)])
            raise KeyError

    with pytest.raises(KeyError):
        fails()
    passes, kept = seen
    assert passes.forward == 1
    assert not hooks(backbone)
    assert not kept._backward_hooks


def test_logits_are_found_in_dictionaries_and_keyword_calls():
    class Wrapped(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = tiny_backbone().module

        def forward(self, images):
            logits = self.inner(images)
            return {"loss": images.sum(), "logits": logits[:, :, None, None]}

    backbone = ModuleBackbone(Wrapped(), Preprocessing(crop=(32, 32), resize=None))
    images = torch.randn(2, 3, 32, 32, requires_grad=True)
    with count_passes(backbone) as passes:
        backbone.logits(images).sum().backward()
        backbone.module(images=images)
    assert passes == Passes(forward=4, backward=2)


def test_the_cost_is_per_image_and_without_the_warm_up():
    calls = []

    def function(backbone, images, classes):
        calls.append(len(images))
        passes = 3 if len(calls) == 1 else 2
        torch.zeros(10_000_000)
        for _ in range(passes):
            backbone.logits(images)
        return torch.zeros(*classes.shape, 2, 2)

    backbone = tiny_backbone()
    method = Method(name="twice", title="Twice", function=function)
    classes = torch.zeros(5, 1).long()
    cost = measure_cost(method, backbone, torch.randn(5, 3, 32, 32), classes, repeats=3)
    assert (cost.forward, cost.backward, cost.batch) == (2, 0, 5)
    assert cost.milliseconds > 0
    assert cost.peak_memory == 40_000_000
    assert cost.device == "cpu"
    assert len(calls) == 5
    assert not hooks(backbone)


def test_nothing_to_measure_is_refused():
    method = get_method("random")
    backbone, images = tiny_backbone(), torch.randn(1, 3, 32, 32)
    with pytest.raises(InputError, match="repeats >= 1"):
        measure_cost(method, backbone, images, torch.zeros(1, 1).long(), repeats=0)
    with pytest.raises(InputError, match="0 images"):
        measure_cost(method, backbone, images[:0], torch.zeros(0, 1).long())
