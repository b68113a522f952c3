from __future__ import annotations

import logging
import urllib.error
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torchvision.models import get_model

import ttame
from made_checkpoint import CLASSES, SMALL, SMALL_LAYERS, classifier, content, written
from ttame.errors import BackboneError, StorageError, UnknownNameError

HEAD = ("generic.body.classifier.1.weight", "generic.body.classifier.1.bias")


def pruned(body: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in body.items() if name not in HEAD}


def plain(body: dict[str, Any]) -> dict[str, Any]:
    return {name.removeprefix("generic.body."): value for name, value in body.items()}


def test_a_pruned_classifier_takes_a_weight_file(tmp_path, caplog):
    body = classifier()
    save_file(plain(body), tmp_path / "w.safetensors")
    file = written(tmp_path / "a.ckpt", content(body=pruned(body)))
    explainer = ttame.import_checkpoint(file, tmp_path / "out", weights=tmp_path / "w.safetensors")
    assert caplog.text == ""
    assert not (tmp_path / "out" / "classifier.safetensors").exists()
    assert explainer.backbone.weights_file == str(tmp_path / "w.safetensors")
    loaded = ttame.load(tmp_path / "out")
    images = torch.randn(1, 3, 64, 64)
    assert torch.equal(loaded(images).maps, explainer(images).maps)


def test_a_pruned_classifier_takes_the_published_weights_and_says_so(tmp_path, caplog, monkeypatch):
    body = classifier(classes=1000)

    def published(name, weights=None, **arguments):
        model = get_model(name, weights=None, **arguments)
        if weights is not None:
            model.load_state_dict(plain(body))
        return model

    monkeypatch.setattr("ttame.backbone.torchvision.get_model", published)
    file = written(tmp_path / "a.ckpt", content(body=pruned(body), classes=1000))
    with caplog.at_level(logging.WARNING, "ttame"):
        explainer = ttame.import_checkpoint(file, tmp_path / "out")
    assert "holds no whole classifier (it lacks classifier.1.weight, classifier.1.bias)" in (
        caplog.text
    )
    assert f"published weights of torchvision/{SMALL} are taken" in caplog.text
    assert explainer.backbone.weights_file is None
    assert ttame.load(tmp_path / "out").backbone.identity == explainer.backbone.identity


def test_published_weights_that_cannot_be_fetched(tmp_path, monkeypatch):
    def offline(name, weights=None, **arguments):
        if weights is not None:
            raise urllib.error.URLError("no network")
        return get_model(name, weights=None, **arguments)

    monkeypatch.setattr("ttame.backbone.torchvision.get_model", offline)
    file = written(tmp_path / "a.ckpt", content(classes=1000))
    with pytest.raises(BackboneError, match=r"no network.*weights=FILE"):
        ttame.import_checkpoint(file, tmp_path / "out")


def test_published_weights_are_for_other_classes(tmp_path):
    file = written(tmp_path / "a.ckpt", content())
    with pytest.raises(StorageError, match=r"explains 5 classes and holds no whole .*--weights"):
        ttame.import_checkpoint(file, tmp_path / "out")


def test_weights_of_another_classifier_are_refused(tmp_path):
    file = written(tmp_path / "a.ckpt", content(body=classifier()))
    other = {**plain(classifier())}
    save_file(other, tmp_path / "w.safetensors")
    with pytest.raises(StorageError, match=r"trained on other weights .*generic\.body\.features"):
        ttame.import_checkpoint(file, tmp_path / "out", weights=tmp_path / "w.safetensors")
    seven = plain(classifier(classes=7))
    save_file(seven, tmp_path / "w.safetensors")
    with pytest.raises(StorageError, match=r"explains 5 classes, the classifier of .*has 7"):
        ttame.import_checkpoint(file, tmp_path / "out", weights=tmp_path / "w.safetensors")


def test_statistics_that_moved_are_told(tmp_path, caplog):
    layers = {"layer1": 64}
    body = classifier("resnet18")
    save_file(plain(body), tmp_path / "w.safetensors")
    body["generic.body.bn1.running_mean"] = body["generic.body.bn1.running_mean"] + 1
    file = written(tmp_path / "a.ckpt", content("resnet18", layers, body=body))
    with caplog.at_level(logging.WARNING, "ttame"):
        ttame.import_checkpoint(file, tmp_path / "out", weights=tmp_path / "w.safetensors")
    assert "1 BatchNorm statistics of the classifier moved" in caplog.text
    assert "generic.body.bn1.running_mean" in caplog.text


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"generic.body.stem.weight": torch.zeros(1)}, r"generic\.body\.stem\.weight .*no weight"),
        ({HEAD[1]: torch.zeros(7)}, r"classifier\.1\.bias .*is \(7,\) instead of the \(5,\)"),
    ],
)
def test_a_body_of_another_model_is_refused(tmp_path, change, message):
    file = written(tmp_path / "a.ckpt", content(body={**classifier(), **change}))
    with pytest.raises(StorageError, match=message):
        ttame.import_checkpoint(file, tmp_path / "out")


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"model_name": "squeezenet11"}, UnknownNameError, "did you mean 'squeezenet1_1'"),
        ({"layers": ["features.5", "features.8", "features.99"]}, UnknownNameError, "features.99"),
        ({"layers": list(SMALL_LAYERS)[::-1]}, StorageError, "of another shape: .*convs.0.weight"),
        ({"layers": list(SMALL_LAYERS)[:2]}, StorageError, "not known: .*convs.2.weight"),
        ({"layers": [*SMALL_LAYERS, "features.11"]}, StorageError, "missing: .*convs.3.weight"),
        ({"layers": [*list(SMALL_LAYERS)[:2], "flatten"]}, StorageError, "of an operation"),
        ({"img_size": 2}, BackboneError, r"takes none of the inputs .* \(3 x 2 x 2: "),
    ],
    ids=str,
)
def test_settings_that_do_not_fit_are_refused(tmp_path, settings, error, message):
    file = written(tmp_path / "a.ckpt", content(body=classifier()), **settings)
    with pytest.raises(error, match=message):
        ttame.import_checkpoint(file, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_file_without_settings_can_be_told_them(tmp_path):
    made = content(body=classifier())
    made["hyper_parameters"] = {}
    file = written(tmp_path / "a.ckpt", made, img_size=64)
    explainer = ttame.import_checkpoint(
        file, tmp_path / "out", model=f"torchvision/{SMALL}", layers=list(SMALL_LAYERS)
    )
    assert explainer.backbone.num_classes == CLASSES
    assert explainer.backbone.class_names is None
