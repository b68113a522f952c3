from __future__ import annotations

import threading
from dataclasses import dataclass
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from ttame.backbone.fingerprint import fingerprint
from ttame.backbone.module import ModuleBackbone
from ttame.errors import BackboneError, InputError, UnknownNameError
from ttame.images.preprocessing import Preprocessing

SMALL = Preprocessing(crop=(16, 16))


class TinyNet(nn.Module):
    """Convolutions with an in-place ReLU, BatchNorm, dropout, a layer called twice, a spare one."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 5, 3, stride=2, padding=1)
        self.norm = nn.BatchNorm2d(5)
        self.relu = nn.ReLU(inplace=True)
        self.drop = nn.Dropout(0.5)
        self.second = nn.Conv2d(5, 6, 3, stride=2, padding=1)
        self.spare = nn.Conv2d(5, 6, 1)
        self.head = nn.Linear(6, 4)

    def forward(self, images: Tensor) -> Tensor:
        features = self.drop(self.relu(self.norm(self.first(images))))
        return self.head(self.relu(self.second(features)).mean(dim=(2, 3)))


def hooks(model: nn.Module) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())


def test_what_comes_before_the_first_weights_is_read_only_by_name():
    model = nn.Sequential(
        nn.ZeroPad2d(3), nn.Conv2d(3, 5, 7, stride=2), nn.ReLU(), nn.AvgPool2d(8), nn.Flatten(),
        nn.Linear(5, 4),
    )  # fmt: skip
    backbone = ModuleBackbone(model, SMALL)
    assert backbone.layers == ("2",)
    assert ModuleBackbone(model, SMALL, layers=["0", "2"]).feature_shapes[0] == (3, 22, 22)
    # Where there is nothing else, it is better than nothing.
    pooled = nn.Sequential(nn.AvgPool2d(4), nn.Flatten(), nn.Linear(48, 4))
    assert ModuleBackbone(pooled, SMALL).layers == ("0",)


@pytest.mark.parametrize("fixed", [True, False])
def test_weights_outside_of_layers_are_weights(fixed):
    class Plain(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            weight = torch.randn(5, 3, 3, 3)
            if fixed:
                self.register_buffer("weight", weight)
            else:
                self.weight = nn.Parameter(weight)
            self.act = nn.ReLU()

        def forward(self, images: Tensor) -> Tensor:
            return self.act(nn.functional.conv2d(images, self.weight))

    model = nn.Sequential(Plain(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 4))
    backbone = ModuleBackbone(model, SMALL, layers=["0.act"])
    assert backbone.feature_shapes == ((5, 14, 14),)


def test_one_forward_pass_gives_logits_and_features():
    model = TinyNet()
    backbone = ModuleBackbone(model, SMALL)
    calls = []
    model.register_forward_hook(lambda *_: calls.append(1))
    images = torch.rand(3, 3, 16, 16)
    logits, features = backbone(images)
    assert len(calls) == 1
    assert torch.equal(logits, model(images))
    assert [f.shape[1:] for f in features] == list(backbone.feature_shapes)
    assert backbone.num_classes == 4


def test_values_from_before_an_in_place_operation():
    model = TinyNet()
    backbone = ModuleBackbone(model, SMALL, layers=["norm", "second"])
    images = torch.randn(2, 3, 16, 16)
    norm, second = backbone(images).features
    expected = model.norm(model.first(images))
    assert expected.min() < 0
    assert torch.equal(norm, expected)
    assert torch.equal(second, model.second(expected.clamp(min=0)))
    needs_copy = {c.name: c.needs_copy for c in backbone.probe.candidates}
    assert needs_copy == {"first": False, "norm": True, "second": True}


@pytest.mark.parametrize(
    ("layer", "reason"),
    [
        ("relu", "called 2 times"),
        ("drop", "passes its input on unchanged"),
        ("spare", "not called"),
        ("head", "no feature map"),
    ],
)
def test_layers_without_a_feature_map_are_refused_with_the_reason(layer, reason):
    with pytest.raises(BackboneError, match=reason):
        ModuleBackbone(TinyNet(), SMALL, layers=[layer])


def test_unknown_and_missing_layers_are_refused():
    with pytest.raises(UnknownNameError, match="did you mean 'second'"):
        ModuleBackbone(TinyNet(), SMALL, layers=["secnd"])
    with pytest.raises(InputError, match="at least one layer"):
        ModuleBackbone(TinyNet(), SMALL, layers=[])
    with pytest.raises(InputError, match="different layers"):
        ModuleBackbone(TinyNet(), SMALL, layers=["norm", "norm"])


def test_other_layers_share_the_classifier():
    backbone = ModuleBackbone(TinyNet(), SMALL, class_names=list("abcd"))
    other = backbone.with_layers(("first",))
    assert other.module is backbone.module
    assert other.layers == ("first",)
    assert other.class_names == tuple("abcd")
    assert backbone.layers == ("norm", "second")
    assert len(other(torch.rand(1, 3, 16, 16)).features) == 1
    assert len(backbone(torch.rand(1, 3, 16, 16)).features) == 2


def test_not_one_bit_changes_even_when_training_is_asked_for():
    model = TinyNet().train()
    before = fingerprint(model)
    state = torch.random.get_rng_state()
    backbone = ModuleBackbone(model, SMALL)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert backbone.identity.fingerprint == before
    images = torch.rand(4, 3, 16, 16)
    first = backbone.train(True)(images).logits
    model.train()
    assert torch.equal(backbone(images).logits, first)
    assert not any(m.training for m in backbone.modules())
    assert not any(p.requires_grad for p in backbone.parameters())
    assert fingerprint(model) == before


def test_gradients_reach_the_images_through_logits_and_features():
    backbone = ModuleBackbone(TinyNet(), SMALL)
    images = torch.rand(2, 3, 16, 16, requires_grad=True)
    logits, features = backbone(images)
    (gradient,) = torch.autograd.grad(logits.sum(), images, retain_graph=True)
    assert gradient.abs().sum() > 0
    (gradient,) = torch.autograd.grad(features[0].square().sum(), images)
    assert gradient.abs().sum() > 0


def test_hooks_are_removed_after_a_call_and_after_an_exception():
    model = TinyNet()
    backbone = ModuleBackbone(model, SMALL)
    assert hooks(model) == 0
    backbone(torch.rand(1, 3, 16, 16))
    assert hooks(model) == 0

    def fail(*_: object) -> None:
        raise KeyError("inside")

    handle = model.head.register_forward_hook(fail)
    with pytest.raises(KeyError):
        backbone(torch.rand(1, 3, 16, 16))
    with pytest.raises(KeyError):
        ModuleBackbone(model, SMALL)
    handle.remove()
    assert hooks(model) == 0


def test_the_probe_restores_training_flags_after_an_exception():
    model = TinyNet().train()
    model.norm.eval()
    with pytest.raises(RuntimeError):
        ModuleBackbone(model, Preprocessing(mean=(0.5,), std=(0.5,)))
    assert model.training
    assert not model.norm.training
    assert hooks(model) == 0


def test_threads_do_not_mix():
    backbone = ModuleBackbone(TinyNet(), SMALL)
    inputs = [torch.rand(1, 3, 16, 16) for _ in range(4)]
    expected = [backbone(images).features for images in inputs]
    wrong: list[int] = []

    def work(index: int) -> None:
        for _ in range(30):
            features = backbone(inputs[index]).features
            if not all(map(torch.equal, features, expected[index])):
                wrong.append(index)

    threads = [threading.Thread(target=work, args=(index,)) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


@pytest.mark.parametrize(
    "images",
    [
        torch.rand(3, 16, 16),
        torch.rand(1, 1, 16, 16),
        torch.zeros(1, 3, 16, 16, dtype=torch.uint8),
        [1, 2],
    ],
)
def test_wrong_images_are_refused(images):
    with pytest.raises(InputError, match="expected images"):
        ModuleBackbone(TinyNet(), SMALL)(images)


def test_a_size_that_the_classifier_refuses_is_named():
    model = nn.Sequential(nn.Conv2d(3, 2, 1), nn.Flatten(), nn.Linear(2 * 16 * 16, 3))
    backbone = ModuleBackbone(model, SMALL)
    with pytest.raises(InputError, match=r"refuses images of 8 x 9 pixels .* take 16 x 16"):
        backbone(torch.rand(1, 3, 8, 9))


def test_networks_that_cannot_be_read_are_refused():
    flat = nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 4))
    with pytest.raises(BackboneError, match="no layer with a feature map"):
        ModuleBackbone(flat, SMALL)
    with pytest.raises(BackboneError, match="expected logits"):
        ModuleBackbone(nn.Conv2d(3, 4, 3), SMALL)


def test_the_number_of_class_names_must_fit():
    with pytest.raises(InputError, match="expected 4 class names"):
        ModuleBackbone(TinyNet(), SMALL, class_names=["a", "b"])


def test_gradients_of_a_layer_take_the_same_way_as_its_output():
    backbone = ModuleBackbone(TinyNet(), SMALL)
    output = torch.rand(2, 5, 8, 8)
    assert backbone.to_map("norm", output, (16, 16)) is output
    with pytest.raises(UnknownNameError):
        backbone.to_map("nrm", output, (16, 16))
    with pytest.raises(BackboneError, match="expected a tensor"):
        backbone.to_map("norm", None, (16, 16))


class OneLogit(TinyNet):
    def __init__(self, flat: bool = False) -> None:
        super().__init__()
        self.head = nn.Linear(6, 1)
        self.flat = flat

    def forward(self, images: Tensor) -> Tensor:
        logit = super().forward(images)
        return logit[:, 0] if self.flat else logit


@pytest.mark.parametrize("flat", [False, True])
def test_one_logit_is_two_classes_whose_softmax_is_its_sigmoid(flat):
    model = OneLogit(flat)
    backbone = ModuleBackbone(model, SMALL)
    assert backbone.num_classes == 2
    assert backbone.class_names == ("negative", "positive")
    assert backbone.activation == "softmax"
    images = torch.randn(3, 3, 16, 16)
    positive = model(images).reshape(3).sigmoid()
    for logits in (backbone.logits(images), backbone(images).logits):
        expected = torch.stack([1 - positive, positive], dim=1)
        torch.testing.assert_close(logits.softmax(dim=1), expected)
    rows = backbone.class_weights
    assert torch.equal(rows, torch.cat([-model.head.weight, model.head.weight]) / 2)
    assert backbone.with_layers(("first",)).logits(images).shape == (3, 2)


def test_names_of_a_classifier_with_one_logit():
    backbone = ModuleBackbone(OneLogit(), SMALL, class_names=["sound", "broken"])
    assert backbone.class_names == ("sound", "broken")
    with pytest.raises(InputError, match="expected 2 class names, the negative first, got 1"):
        ModuleBackbone(OneLogit(), SMALL, class_names=["broken"])
    with pytest.raises(InputError, match="leave multi_label out"):
        ModuleBackbone(OneLogit(), SMALL, multi_label=True)


def test_a_multi_label_classifier_gives_sigmoids():
    backbone = ModuleBackbone(TinyNet(), SMALL, multi_label=True)
    assert (backbone.num_classes, backbone.activation) == (4, "sigmoid")
    assert backbone.with_layers(("first",)).activation == "sigmoid"
    assert backbone.recipe == {"source": "module", "logits": None, "multi_label": True}


class Several(TinyNet):
    """Gives (auxiliary scores, classes), both of the shape of logits."""

    def __init__(self, form) -> None:
        super().__init__()
        self.aux = nn.Linear(6, 3)
        self.form = form

    def forward(self, images: Tensor) -> object:
        features = self.relu(self.second(self.drop(self.relu(self.norm(self.first(images))))))
        pooled = features.mean(dim=(2, 3))
        return self.form(self.aux(pooled), self.head(pooled))


@dataclass
class Scores:
    aux: Tensor
    classes: Tensor


@pytest.mark.parametrize(
    ("form", "which"),
    [
        (lambda aux, classes: (aux, classes), 1),
        (lambda aux, classes: [aux, classes], -1),
        (lambda aux, classes: {"aux": aux, "classes": classes}, "classes"),
        (Scores, "classes"),
        (Scores, 1),
        (lambda aux, classes: SimpleNamespace(aux=aux, classes=classes), "classes"),
    ],
)
def test_the_logits_can_be_named(form, which):
    model = Several(form)
    backbone = ModuleBackbone(model, SMALL, logits=which)
    images = torch.randn(2, 3, 16, 16)
    assert backbone.num_classes == 4
    output = backbone.with_layers(("second",))(images)
    expected = model.head(output.features[0].relu().mean(dim=(2, 3)))
    assert torch.equal(output.logits, expected)
    assert torch.equal(backbone.logits(images), expected)
    assert torch.equal(backbone.class_weights, model.head.weight)


def test_a_wrong_name_of_the_logits_says_what_is_there():
    model = Several(Scores)
    with pytest.raises(
        UnknownNameError, match=r"'clases'; did you mean 'classes'\?.*aux: \(2, 3\)"
    ):
        ModuleBackbone(model, SMALL, logits="clases")
    with pytest.raises(UnknownNameError, match="unknown output 2; valid: aux, classes"):
        ModuleBackbone(model, SMALL, logits=2)
    with pytest.raises(UnknownNameError, match=r"returns only \(2, 4\); leave logits= out"):
        ModuleBackbone(TinyNet(), SMALL, logits="scores")
    with pytest.raises(BackboneError, match="say which they are with logits="):
        ModuleBackbone(Several(lambda aux, _: {"loss": aux.sum()}), SMALL)
