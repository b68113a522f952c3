"""What every method in the registry promises, on three families of classifiers."""

from __future__ import annotations

import pytest
import torch

from tiny_families import FAMILIES
from ttame.backbone.fingerprint import fingerprint
from ttame.benchmarking.float32 import whole_float32
from ttame.errors import BackboneError, InputError
from ttame.methods.registry import Method, get_method, methods

FEWER = {"rise": {"masks": 24}, "integrated_gradients": {"steps": 4}, "smoothgrad": {"draws": 3}}
CONTROLS = [name for name, method in methods().items() if method.control]
# IIA takes the feature map where there is no attention between all patches.
ATTENTION = {name for name, method in methods().items() if "attention" in method.needs} - {"iia"}
REFUSED = {
    "cnn": ATTENTION,
    "vit": {"guided_backprop"},
    "swin": ATTENTION | {"guided_backprop"},
}


@pytest.fixture(scope="module")
def backbones():
    return {family: make() for family, make in FAMILIES.items()}


def method_of(name: str) -> Method:
    return get_method(name, **FEWER.get(name, {}))


def photos(backbone, count=3):
    generator = torch.Generator().manual_seed(3)
    coarse = torch.rand(count, 3, 6, 6, generator=generator)
    pixels = torch.nn.functional.interpolate(coarse, backbone.preprocessing.crop, mode="bicubic")
    return backbone.preprocessing.normalise(pixels.clamp(0, 1))


def no_trace(backbone) -> bool:
    for module in backbone.modules():
        hooks = (module._forward_hooks, module._forward_pre_hooks, module._backward_hooks)
        if module.training or any(hooks) or module._backward_pre_hooks:
            return False
    return all(p.grad is None and not p.requires_grad for p in backbone.parameters())


@pytest.mark.parametrize("name", [n for n, m in methods().items() if "seed" in m.options])
def test_another_seed_gives_other_draws(backbones, name):
    backbone, method = backbones["cnn"], method_of(name)
    images, classes = photos(backbone, 2), torch.tensor([[0], [1]])
    usual, *others = (
        method.with_options(seed=seed)(backbone, images, classes) for seed in (0, 1, 2**40)
    )
    assert torch.equal(method(backbone, images, classes), usual)
    assert all((other - usual).abs().max() > 1e-6 for other in others)
    with pytest.raises(InputError, match="a seed of at least 0, got -1"):
        method.with_options(seed=-1)(backbone, images, classes)


@pytest.mark.parametrize("name", methods())
@pytest.mark.parametrize("family", FAMILIES)
def test_the_contract(backbones, family, name):
    backbone, method = backbones[family], method_of(name)
    before = fingerprint(backbone.module)
    images = photos(backbone)
    given = images.clone()
    classes = torch.tensor([[0, 1], [2, 2], [4, 0]])
    if name in REFUSED[family]:
        with pytest.raises(BackboneError, match=r".{20}"):
            method(backbone, images, classes)
        assert no_trace(backbone)
        return
    maps = method(backbone, images, classes)
    assert maps.shape[:2] == (3, 2)
    assert min(maps.shape[2:]) > 1
    assert maps.dtype == torch.float32
    assert maps.isfinite().all()
    assert not maps.requires_grad
    assert torch.equal(images, given)
    assert not images.requires_grad
    assert fingerprint(backbone.module) == before == backbone.identity.fingerprint
    assert no_trace(backbone)
    assert torch.is_grad_enabled()
    # Called again it says the same.
    assert torch.equal(method(backbone, images, classes), maps)
    # Another batch, another order, other classes beside it: nothing changes.
    scale = maps.abs().amax(dim=(2, 3), keepdim=True).clamp(min=1e-12)
    order = [2, 0]
    other = method(backbone, images[order], classes[order].flip(1)).flip(1)
    torch.testing.assert_close(other / scale[order], (maps / scale)[order], rtol=0, atol=1e-5)
    for index in range(3):
        single = method(backbone, images[index : index + 1], classes[index : index + 1, :1])
        expected = (maps / scale)[index, :1]
        torch.testing.assert_close(single[0] / scale[index, :1], expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", methods())
@pytest.mark.parametrize("family", FAMILIES)
def test_on_a_gpu_the_maps_stay_there_and_are_the_same(family, name, gpu):
    if name in REFUSED[family]:
        pytest.skip("refused, as on the CPU")
    backbone, method = FAMILIES[family](), method_of(name)
    images, classes = photos(backbone), torch.tensor([[0, 1], [2, 2], [4, 0]])
    expected = method(backbone, images, classes)
    with whole_float32():
        maps = method(backbone.to(gpu), images.to(gpu), classes.to(gpu))
    assert maps.device.type == "cuda"
    assert maps.dtype == torch.float32
    scale = expected.abs().amax(dim=(2, 3), keepdim=True).clamp(min=1e-12)
    torch.testing.assert_close(maps.cpu() / scale, expected / scale, rtol=0, atol=1e-3)
    assert no_trace(backbone)
    assert fingerprint(backbone.module) == backbone.identity.fingerprint


@pytest.mark.parametrize("mode", [torch.inference_mode, torch.no_grad])
@pytest.mark.parametrize("name", sorted(set(methods()) - REFUSED["cnn"]))
def test_the_callers_grad_mode_does_not_matter(backbones, name, mode):
    backbone, method = backbones["cnn"], method_of(name)
    classes = torch.tensor([[1, 3]])
    expected = method(backbone, photos(backbone, 1), classes)
    with mode():
        maps = method(backbone, photos(backbone, 1), classes.clone())
        assert not torch.is_grad_enabled()
    assert torch.equal(maps, expected)


@pytest.mark.parametrize("name", sorted(set(methods()) - set(CONTROLS) - REFUSED["cnn"]))
def test_an_error_of_the_classifier_comes_through_and_leaves_no_trace(backbones, name, monkeypatch):
    backbone, method = backbones["cnn"], method_of(name)
    images, classes = photos(backbone, 1), torch.tensor([[1]])
    method(backbone, images, classes)

    def fail(*_):
        raise RuntimeError("out of luck")

    monkeypatch.setattr(backbone.module[3], "forward", fail)
    with pytest.raises((RuntimeError, BackboneError), match="out of luck"):
        method(backbone, images, classes)
    monkeypatch.undo()
    assert no_trace(backbone)
    assert torch.is_grad_enabled()
    assert not torch.is_inference_mode_enabled()
    assert method(backbone, images, classes).isfinite().all()


@pytest.mark.parametrize("name", methods())
def test_nothing_is_printed(backbones, name, capfd, recwarn):
    backbone = backbones["vit" if name in ATTENTION else "cnn"]
    method_of(name)(backbone, photos(backbone, 2), torch.tensor([[1], [2]]))
    out, err = capfd.readouterr()
    assert out == err == ""
    assert not [str(warning.message) for warning in recwarn]
