"""Gradient methods against captum called directly, by hand and by their axioms."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tiny_backbone import tiny_backbone
from ttame.backbone.module import ModuleBackbone
from ttame.errors import BackboneError, InputError, UnknownNameError
from ttame.images.preprocessing import Preprocessing
from ttame.methods.captum_package import attributions
from ttame.methods.controls import edge_map
from ttame.methods.gradients import input_x_gradient, integrated_gradients, saliency
from ttame.methods.guidedbackprop import guided_backprop
from ttame.methods.input_gradients import input_gradients
from ttame.methods.seeding import photo_seeds
from ttame.methods.smoothgrad import smoothgrad
from ttame.metrics.cost import count_passes

captum = pytest.importorskip("captum.attr")

CLASSES = torch.tensor([[0, 4], [3, 2]])


@pytest.fixture(scope="module")
def backbone():
    return tiny_backbone((24, 40))


@pytest.fixture
def images():
    return torch.randn(2, 3, 24, 40)


def by_captum(method, images, **arguments):
    """The signed attributions of captum, (B, n, C, H, W)."""
    images = images.clone().requires_grad_()
    columns = [method.attribute(images, target=column, **arguments) for column in CLASSES.T]
    return torch.stack(columns, dim=1).detach()


@pytest.mark.filterwarnings("ignore:Setting backward hooks")
def test_the_same_as_captum_called_directly(backbone, images):
    model = backbone.module
    expected = by_captum(captum.Saliency(model), images).amax(dim=2)
    torch.testing.assert_close(saliency(backbone, images, CLASSES), expected)
    expected = by_captum(captum.InputXGradient(model), images).abs().sum(dim=2)
    torch.testing.assert_close(input_x_gradient(backbone, images, CLASSES), expected)
    signed = by_captum(captum.IntegratedGradients(model), images, baselines=-2.0, n_steps=9)
    maps = integrated_gradients(backbone, images, CLASSES, steps=9)
    torch.testing.assert_close(maps, signed.abs().sum(dim=2).float(), rtol=1e-4, atol=1e-6)
    expected = by_captum(captum.GuidedBackprop(model), images).abs().sum(dim=2)
    torch.testing.assert_close(guided_backprop(backbone, images, CLASSES), expected)


def test_integrated_gradients_are_complete(backbone, images):
    arguments = {"baselines": torch.zeros_like(images), "n_steps": 200}
    signed = attributions("IntegratedGradients", backbone, images, CLASSES, **arguments)
    logits = backbone.logits(images) - backbone.logits(torch.zeros_like(images))
    expected = logits.gather(1, CLASSES)
    torch.testing.assert_close(signed.sum(dim=(2, 3, 4)).float(), expected, rtol=0, atol=0.02)
    with pytest.raises(UnknownNameError, match="fill"):
        integrated_gradients(backbone, images, CLASSES, baseline="blak")


def test_the_gradient_of_a_linear_classifier_is_its_weight():
    model = nn.Sequential(nn.Conv2d(3, 3, 1, bias=False), nn.Flatten(), nn.Linear(3 * 8 * 8, 3))
    nn.init.dirac_(model[0].weight)
    plan = Preprocessing(crop=(8, 8), resize=None, mean=(0.0,) * 3, std=(1.0,) * 3)
    backbone = ModuleBackbone(model, plan, layers=["0"])
    image = torch.rand(1, 3, 8, 8)
    weight = model[2].weight.detach().view(3, 3, 8, 8)
    classes = torch.tensor([[2, 0]])
    torch.testing.assert_close(saliency(backbone, image, classes)[0], weight[[2, 0]].abs().amax(1))
    expected = (weight[[2, 0]] * image).abs().sum(dim=1)
    # With the black baseline 0 all of these are input x gradient.
    for method in (input_x_gradient, integrated_gradients):
        torch.testing.assert_close(method(backbone, image, classes)[0], expected)
    expected = weight[[2, 0]].abs().sum(dim=1)
    torch.testing.assert_close(smoothgrad(backbone, image, classes)[0], expected)


def test_smoothgrad_equals_a_slow_loop(backbone, images):
    maps = smoothgrad(backbone, images, CLASSES, draws=5, noise=0.3)
    for row, seed in enumerate(photo_seeds(backbone, images)):
        generator = torch.Generator().manual_seed(seed)
        image = images[row]
        deviation = 0.3 * (image.max() - image.min())
        total = torch.zeros(2, 3, 24, 40)
        for _ in range(5):
            noisy = image + deviation * torch.randn(3, 24, 40, generator=generator)
            for column, index in enumerate(CLASSES[row].tolist()):
                noisy = noisy.detach().requires_grad_()
                (gradient,) = torch.autograd.grad(backbone.module(noisy[None])[0, index], noisy)
                total[column] += gradient
        torch.testing.assert_close(maps[row], (total / 5).abs().sum(dim=1), rtol=1e-4, atol=1e-6)


def test_smoothgrad_without_noise_is_the_gradient(backbone, images):
    expected = input_gradients(backbone, images, CLASSES).abs().sum(dim=2)
    torch.testing.assert_close(smoothgrad(backbone, images, CLASSES, draws=2, noise=0.0), expected)
    for options in ({"draws": 0}, {"noise": -0.1}):
        with pytest.raises(InputError, match="at least 1 draw"):
            smoothgrad(backbone, images, CLASSES, **options)


@pytest.mark.parametrize(
    ("method", "forward"),
    [(saliency, 2), (input_x_gradient, 2), (guided_backprop, 1), (smoothgrad, 16)],
)
def test_passes(backbone, images, method, forward):
    with count_passes(backbone) as passes:
        method(backbone, images, CLASSES)
    backward = 2 if forward < 16 else 32
    assert (passes.forward, passes.backward) == (2 * forward, 2 * backward)


class _Rectified(nn.Module):
    """Two convolutions with a rectifier between them, called in the given way."""

    def __init__(self, rectifier):
        super().__init__()
        self.rectifier = rectifier
        self.first, self.second = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 3, 3)

    def forward(self, images):
        return self.second(self.rectifier(self.first(images) * 3)).mean(dim=(2, 3))


def _ignoring_the_result(function):
    def call(tensor):
        function(tensor)
        return tensor

    return call


@pytest.mark.parametrize(
    "rectifier",
    [
        nn.ReLU(),
        nn.ReLU(inplace=True),
        F.relu,
        F.relu_,
        torch.relu,
        lambda x: x.relu(),
        lambda x: x.relu_(),
        lambda x: F.relu(x, True),
        lambda x: F.relu(input=x, inplace=True),
        _ignoring_the_result(nn.ReLU(inplace=True)),
        _ignoring_the_result(torch.relu_),
        nn.ReLU6(),
        nn.ReLU6(inplace=True),
        F.relu6,
        lambda x: F.hardtanh(x, 0, 6),
        lambda x: F.hardtanh_(x, 0.0, 6.0),
        _ignoring_the_result(nn.ReLU6(inplace=True)),
    ],
)
def test_guided_backprop_knows_every_way_to_call_a_rectifier(rectifier):
    model = _Rectified(rectifier)
    backbone = ModuleBackbone(model, Preprocessing(crop=(9, 9), resize=None), layers=["first"])
    image, classes = torch.randn(1, 3, 9, 9) * 3, torch.tensor([[1]])
    before = backbone.logits(image)
    maps = guided_backprop(backbone, image, classes)
    assert torch.equal(backbone.logits(image), before)
    inside = model.first(image) * 3
    out = rectifier(inside.clone())
    assert (out == 6).any() == (out.max() == 6)
    # Backwards by hand: through the mean, the second convolution, the rectifier and the first.
    above = F.conv_transpose2d(torch.eye(3)[1].expand(1, 5, 5, 3).movedim(3, 1) / 25,
                               model.second.weight)  # fmt: skip
    ceiling = 6 if out.max() == 6 else torch.inf
    passed = above.clamp(min=0) * ((inside > 0) & (inside < ceiling))
    expected = F.conv_transpose2d(passed * 3, model.first.weight).abs().sum(dim=1)
    torch.testing.assert_close(maps[0], expected, rtol=1e-4, atol=1e-6)
    assert not torch.allclose(maps[0], input_gradients(backbone, image, classes)[0].abs().sum(1))


@pytest.mark.parametrize(
    ("activation", "reason"),
    [
        (nn.SiLU(), "activation SiLU"),
        (nn.GELU(), "activation GELU"),
        (nn.Hardswish(), "activation Hardswish"),
        (nn.LeakyReLU(), "activation leaky ReLU"),
        (nn.PReLU(), "activation PReLU"),
        (nn.Hardtanh(), "activation Hardtanh"),
        (nn.Sequential(nn.ReLU(), nn.SiLU()), "activation SiLU"),
        (nn.Tanh(), "needs a ReLU"),
    ],
)
def test_guided_backprop_refuses_other_activations(activation, reason):
    backbone = ModuleBackbone(_Rectified(activation), Preprocessing(crop=(9, 9), resize=None))
    with pytest.raises(BackboneError, match=reason):
        guided_backprop(backbone, torch.randn(1, 3, 9, 9), torch.tensor([[0]]))


def test_edge_map_of_a_step(backbone):
    photo = torch.zeros(1, 3, 24, 40)
    photo[..., 20:] = 0.6
    maps = edge_map(backbone, backbone.preprocessing.normalise(photo), torch.tensor([[0, 1]]))
    expected = torch.zeros(24, 40)
    expected[:, 19:21] = 4 * 0.6
    torch.testing.assert_close(maps[0, 0], expected, rtol=0, atol=1e-5)
    assert torch.equal(maps[0, 0], maps[0, 1])
    turned = edge_map(backbone, backbone.preprocessing.normalise(photo.mT), torch.tensor([[0]]))
    torch.testing.assert_close(turned[0, 0], expected.T, rtol=0, atol=1e-5)
