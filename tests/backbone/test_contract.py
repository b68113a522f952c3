"""A hand-written backbone works everywhere: explained, trained, stored, evaluated, benchmarked."""

from __future__ import annotations

import pytest
import torch

import ttame
from own_backbone import OwnBackbone
from tiny_backbone import TINY_TRAINING, tiny_photos
from ttame.backbone.contract import Backbone, BackboneIdentity, BackboneOutput, LayerInfo
from ttame.backbone.fingerprint import fingerprint
from ttame.errors import BackboneError, InputError, StorageError
from ttame.explainer import new_explainer
from ttame.methods.cam_layer import gradient_layer
from ttame.methods.registry import get_method
from ttame.metrics.cost import count_passes


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    photos = tiny_photos(tmp_path_factory.mktemp("photos"), 24)
    out = tmp_path_factory.mktemp("out")
    return ttame.train(OwnBackbone(), photos, out, progress=False, **TINY_TRAINING), photos, out


def test_defaults_of_the_contract():
    backbone = OwnBackbone()
    assert backbone.activation == "softmax"
    assert backbone.class_names is None
    assert backbone.identity == BackboneIdentity("module", "OwnBackbone", fingerprint(backbone))
    assert backbone.candidate_layers() == [
        LayerInfo("model.1", (12, 8, 8)),
        LayerInfo("model.2", (16, 4, 4)),
    ]
    images = torch.randn(2, 3, 32, 32)
    assert torch.equal(backbone.logits(images), backbone.model(images))
    assert backbone.with_layers(("model.1", "model.2")) is backbone
    with pytest.raises(BackboneError, match=r"reads the layers model\.1, model\.2 and no others"):
        backbone.with_layers(("model.0",))
    with pytest.raises(BackboneError, match="expected a feature map"):
        backbone.to_map("model.1", torch.zeros(2, 3), (32, 32))


def test_loading_freezes_it():
    backbone = OwnBackbone()
    assert ttame.load_backbone(backbone) is backbone
    assert not any(p.requires_grad or p.grad is not None for p in backbone.parameters())
    assert not any(module.training for module in backbone.modules())
    assert ttame.load_backbone(backbone, multi_label=False) is backbone
    with pytest.raises(InputError, match="loaded already, with multi_label=False"):
        ttame.load_backbone(backbone, multi_label=True)


def test_it_is_trained_stored_and_explained(trained):
    explainer, photos, out = trained
    loaded = ttame.load(out, backbone=OwnBackbone())
    first, second = (item.explain(photos, "top2") for item in (explainer, loaded))
    assert first.masks.shape[:2] == (24, 2)
    assert torch.equal(first.maps, second.maps)
    with pytest.raises(StorageError, match=r"pass it: ttame.load\(folder, backbone="):
        ttame.load(out)
    other = OwnBackbone()
    other.activation = "sigmoid"
    with pytest.raises(StorageError, match="trained on probabilities by softmax"):
        ttame.load(out, backbone=other)


def test_it_is_evaluated_beside_gradcam(trained):
    pytest.importorskip("pytorch_grad_cam")
    explainer, photos, _ = trained
    evaluation = ttame.evaluate(explainer, photos)
    assert {"ttame", "gradcam", "random"} <= set(evaluation.per_image["method"])
    assert evaluation.per_image["ad_50"].between(0, 100).all()


def test_it_is_benchmarked_with_what_it_can_do(trained):
    pytest.importorskip("pytorch_grad_cam")
    explainer, photos, _ = trained
    names = ["gradcam", "saliency", "rise", "rollout", "random"]
    result = ttame.benchmark(
        explainer, photos, images=3, methods=names,
        measures=["confidence", "insertion_deletion", "road", "randomisation"],
    )  # fmt: skip
    status = {name: details["status"] for name, details in result.methods.items()}
    assert status.pop("rollout") != "ok"
    assert set(status.values()) == {"ok"}, status


@pytest.mark.parametrize("name", ["gradcam", "hirescam", "eigencam", "scorecam", "ablationcam"])
def test_methods_at_a_layer_say_the_same_as_on_the_module(name):
    pytest.importorskip("pytorch_grad_cam")
    own = OwnBackbone(("model.1", "model.2"))
    module = ttame.load_backbone(own.model, preprocessing=own.preprocessing, layers=["1", "2"])
    images, classes = torch.randn(2, 3, 32, 32), torch.tensor([[1, 0], [2, 3]])
    if name in ("eigencam", "scorecam", "ablationcam"):
        # They read the one layer alone.
        own.with_layers = lambda layers: _Reading(own, layers)
    maps = get_method(name)(own, images, classes)
    torch.testing.assert_close(maps, get_method(name)(module, images, classes))


class _Reading:
    def __init__(self, own: OwnBackbone, layers: tuple[str, ...]) -> None:
        self.own, self.places = own, [own.layers.index(layer) for layer in layers]

    def __call__(self, images: torch.Tensor) -> BackboneOutput:
        output = self.own(images)
        return BackboneOutput(output.logits, tuple(output.features[i] for i in self.places))


def test_layers_that_are_no_submodules_serve_all_but_the_methods_that_look_inside():
    backbone = OwnBackbone(("early", "late"))
    assert new_explainer(backbone)(torch.randn(2, 3, 32, 32)).maps.shape[:2] == (2, 1)
    with pytest.raises(BackboneError, match="named as submodules of OwnBackbone, got early, late"):
        gradient_layer(backbone)


def test_passes_are_counted():
    backbone = ttame.load_backbone(OwnBackbone())
    images = torch.randn(3, 3, 32, 32, requires_grad=True)
    with count_passes(backbone) as passes:
        backbone.logits(images).sum().backward()
    assert (passes.forward, passes.backward) == (3, 3)


def test_a_single_class_is_refused():
    backbone = OwnBackbone()
    backbone.num_classes = 1
    with pytest.raises(BackboneError, match="at least two classes"):
        new_explainer(backbone)


def test_forward_must_be_written():
    with pytest.raises(TypeError, match="abstract"):
        Backbone()
