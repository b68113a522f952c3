"""Imported explainers give the published form's maps; refused files leave nothing behind."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torchvision.models import get_model, vision_transformer
from torchvision.models.feature_extraction import create_feature_extractor

import ttame
from made_checkpoint import CLASSES, SIDE, SMALL, SMALL_LAYERS, classifier, content, written
from references.attention import slow_attention
from ttame import storage
from ttame.checkpoints import importing
from ttame.errors import StorageError


def slow_maps(made: dict[str, Any], images: Tensor, branch: str = "paper") -> Tensor:
    """The published form step by step, on features that torchvision itself extracts."""
    values = made["hyper_parameters"]
    size, classes, nodes = values["img_size"], values["num_classes"], list(values["layers"])
    sized = {"image_size": size} if values["model_name"].startswith("vit") else {}
    model = get_model(values["model_name"], weights=None, num_classes=classes, **sized)
    state = {
        name.removeprefix("generic.").replace("attn_mech.1.", "attn_mech."): value.float()
        for name, value in made["state_dict"].items()
    }
    body = {n.removeprefix("body."): v for n, v in state.items() if n.startswith("body.")}
    model.load_state_dict(body)
    with torch.no_grad():
        extracted = create_feature_extractor(model.eval(), nodes)(images)
    features = []
    for node in nodes:
        feature = extracted[node]
        if feature.ndim == 3:  # tokens: the class token goes, the others are the photo's patches
            rows = size // 16
            feature = feature[:, 1:].transpose(1, 2).reshape(len(images), -1, rows, rows)
        features.append(feature)
    names = {"convs": "conv", "bns": "norm"}
    branches = [
        {
            f"{ours}.{name.split('.')[-1]}": value
            for theirs, ours in names.items()
            for name, value in state.items()
            if name.startswith(f"attn_mech.{theirs}.{index}.")
        }
        for index in range(len(nodes))
    ]
    weight, bias = (state[f"attn_mech.fuser.{part}"] for part in ("weight", "bias"))
    return slow_attention(
        features, branches, weight[:, :, 0, 0], bias, batch_statistics=False, branch=branch
    )


def check(explainer: ttame.Explainer, made: dict[str, Any], branch: str = "paper") -> float:
    side = made["hyper_parameters"]["img_size"]
    images = torch.randn(2, 3, side, side)
    expected = slow_maps(made, images, branch)
    explanation = explainer(images, "all")
    torch.testing.assert_close(explanation.maps, expected, atol=1e-4, rtol=1e-4)
    low, high = expected.amin((2, 3), keepdim=True), expected.amax((2, 3), keepdim=True)
    shown = (expected - low) / (high - low)
    torch.testing.assert_close(explanation.masks, shown, atol=1e-4, rtol=0)
    return float((explanation.maps - expected).abs().max())


def test_a_cnn_gives_the_published_maps_and_moves_with_its_folder(tmp_path):
    layers = {"layer2": 128, "layer3": 256, "layer4": 512}
    made = content("resnet18", layers, classes=1000, body=classifier("resnet18", 1000))
    file = written(tmp_path / "resnet18.ckpt", made)
    explainer = ttame.import_checkpoint(file, tmp_path / "out")
    assert check(explainer, made) < 1e-4
    assert explainer.backbone.class_names[1] == "goldfish"
    assert (tmp_path / "out").rename(tmp_path / "moved")
    assert {path.name for path in (tmp_path / "moved").iterdir()} == {
        "explainer.json",
        "attention.safetensors",
        "classifier.safetensors",
    }
    file.unlink()
    loaded = ttame.load(tmp_path / "moved")
    check(loaded, made)
    assert loaded.backbone.identity == explainer.backbone.identity
    assert loaded.backbone.preprocessing.to_dict() == {
        "crop": (SIDE, SIDE),
        "resize": 73,
        "mean": (0.485, 0.456, 0.406),
        "std": (0.229, 0.224, 0.225),
        "interpolation": "bilinear",
        "reverse": False,
    }
    shutil.rmtree(tmp_path / "moved")  # 50 MB


@pytest.fixture
def narrow(monkeypatch):
    """torchvision's vision transformers with 16 channels instead of 768: a file of 300 kB."""
    wide = vision_transformer._vision_transformer

    def made(**arguments):
        return wide(**{**arguments, "num_heads": 2, "hidden_dim": 16, "mlp_dim": 32})

    monkeypatch.setattr(vision_transformer, "_vision_transformer", made)


@pytest.mark.usefixtures("narrow")
def test_a_vision_transformer_gives_the_published_maps(tmp_path):
    layers = {f"encoder.layers.encoder_layer_{block}.ln": 16 for block in (9, 10, 11)}
    body = classifier("vit_b_16", image_size=48)
    body = {name: value.half() for name, value in body.items()}
    made = content("vit_b_16", layers, size=48, body=body, prefix="1.")
    made["hyper_parameters"]["train_method"] = "new"
    file = written(tmp_path / "vit.ckpt", made)
    explainer = ttame.import_checkpoint(file, tmp_path / "out")
    assert check(explainer, made) < 1e-4
    assert explainer.backbone.layers[0] == "encoder.layers.encoder_layer_9.ln_1"
    assert explainer.backbone.feature_shapes == ((16, 3, 3),) * 3
    assert explainer.provenance["imported"]["fill"] == "mean"
    check(ttame.load(tmp_path / "out"), made)


@pytest.mark.parametrize(
    ("branch", "parts", "version", "say"),
    [
        ("no-norm", {"norms": False}, "other", None),
        ("no-norm", {"norms": False}, None, None),
        ("paper", {}, None, None),
        ("paper", {}, "T-TAME", None),
        ("no-skip", {}, "other", "no-skip"),
        ("sigmoid", {}, "other", "sigmoid"),
        ("identity", {"convs": False, "norms": False}, "other", None),
    ],
)
def test_every_form_of_the_branches(tmp_path, branch, parts, version, say):
    made = content(body=classifier(), **parts)
    file = written(tmp_path / "a.ckpt", made, attention_version=version)
    explainer = ttame.import_checkpoint(file, tmp_path / "out", branch=say)
    assert explainer.attention.branch == branch
    check(ttame.load(tmp_path / "out"), made, branch)


def test_the_folder_says_where_it_comes_from(tmp_path):
    file = written(tmp_path / "a.ckpt", content(body=classifier()))
    ttame.import_checkpoint(file, tmp_path / "out")
    description = storage.read_description(tmp_path / "out")
    assert description["backbone"]["source"] == f"torchvision/{SMALL}"
    assert description["backbone"]["weights_file"] == "classifier.safetensors"
    assert description["backbone"]["layers"] == list(SMALL_LAYERS)
    attention = description["attention"]
    assert (attention["head"], attention["mask_form"]) == ("independent", "sigmoid")
    assert (attention["grid"], attention["branch"], attention["smoothing"]) == ("first", "paper", 0)
    noted = description["imported"]
    assert len(noted.pop("sha256")) == 64
    assert noted == {
        "file": "a.ckpt",
        "epoch": 7,
        "global_step": 1234,
        "pytorch-lightning_version": "1.9.0",
        "attention_version": "TTAME",
        "fill": "black",
    }


def test_importing_leaves_the_random_numbers_alone(tmp_path):
    file = written(tmp_path / "a.ckpt", content(body=classifier()))
    state = torch.random.get_rng_state()
    ttame.import_checkpoint(file, tmp_path / "out")
    assert torch.equal(torch.random.get_rng_state(), state)


def test_a_refused_file_leaves_no_folder(tmp_path):
    made = content(body=classifier())
    del made["state_dict"]["generic.attn_mech.convs.1.bias"]
    file = written(tmp_path / "a.ckpt", made)
    with pytest.raises(StorageError, match=r"missing: generic\.attn_mech\.convs\.1\.bias"):
        ttame.import_checkpoint(file, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["a.ckpt"]


@pytest.mark.parametrize("fatal", ["classifier.safetensors", storage.WEIGHTS, storage.DESCRIPTION])
def test_a_killed_import_leaves_no_explainer_and_can_be_repeated(tmp_path, monkeypatch, fatal):
    file = written(tmp_path / "a.ckpt", content(body=classifier()))
    write = storage.write_atomically

    def killed(path: Path, write_content: Any) -> Path:
        if path.name == fatal:
            raise KeyboardInterrupt
        return write(path, write_content)

    for module in (storage, importing):
        monkeypatch.setattr(module, "write_atomically", killed)
    with pytest.raises(KeyboardInterrupt):
        ttame.import_checkpoint(file, tmp_path / "out")
    with pytest.raises(StorageError, match="no explainer"):
        ttame.load(tmp_path / "out")
    monkeypatch.undo()
    ttame.import_checkpoint(file, tmp_path / "out")
    assert ttame.load(tmp_path / "out").backbone.num_classes == CLASSES


def test_a_folder_with_an_explainer_is_refused(tmp_path):
    (tmp_path / "explainer.json").write_text("{}")
    with pytest.raises(StorageError, match="holds an explainer already"):
        ttame.import_checkpoint(tmp_path / "a.ckpt", tmp_path)
    assert json.loads((tmp_path / "explainer.json").read_text()) == {}


def test_a_place_that_cannot_be_written(tmp_path):
    file = written(tmp_path / "a.ckpt", content(body=classifier()))
    with pytest.raises(StorageError, match="cannot write"):
        ttame.import_checkpoint(file, file / "out")


def test_other_numbers_of_classes_are_refused(tmp_path):
    file = written(tmp_path / "a.ckpt", content(), num_classes=7)
    with pytest.raises(StorageError, match="says num_classes 7, its head has 5"):
        ttame.import_checkpoint(file, tmp_path / "out")
