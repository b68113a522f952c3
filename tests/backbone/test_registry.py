from __future__ import annotations

import csv
import json

import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from ttame.backbone.registry import load_backbone
from ttame.errors import BackboneError, InputError, StorageError, UnknownNameError
from ttame.images.preprocessing import Preprocessing


def small_net(channels: int = 3, classes: int = 4) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(channels, 6, 3),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(6, classes),
    )


@pytest.mark.parametrize(
    ("source", "hint"),
    [
        ("timm/resnet81", "resnet18"),
        ("torchvision/resnet19", "resnet18"),
        ("tim/resnet18", "timm/resnet18"),
        ("resnet18", "timm/resnet18"),
        ("ttame/efficientnet-lite", "efficientnet-lite0"),
    ],
)
def test_unknown_names_come_with_near_ones(source, hint):
    with pytest.raises(UnknownNameError, match=hint):
        load_backbone(source)


@pytest.mark.parametrize("source", ["timm/resnet18", "torchvision/resnet18"])
def test_a_failed_download_says_what_to_do(source, monkeypatch):
    def offline(*_: object, **__: object) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr("timm.models._builder.load_pretrained", offline)
    monkeypatch.setattr("torchvision.models._api.WeightsEnum.get_state_dict", offline)
    with pytest.raises(
        BackboneError, match=r"no route to host; pass weights=FILE .*pretrained=False"
    ):
        load_backbone(source)


@pytest.mark.parametrize(
    "source", ["timm/resnet18", "torchvision/resnet18", "ttame/efficientnet-lite0"]
)
def test_unknown_arguments_are_refused(source):
    with pytest.raises(InputError, match="arguments"):
        load_backbone(source, pretrained=False, colour="red")


def test_models_without_a_classifier_are_refused():
    with pytest.raises(BackboneError, match="no classifier on top"):
        load_backbone("timm/resnet18", pretrained=False, num_classes=0)


@pytest.mark.parametrize("source", ["timm/resnet18", "torchvision/resnet18"])
def test_a_weight_file_decides_the_number_of_classes(source, tmp_path):
    first = load_backbone(source, pretrained=False, image_size=64, num_classes=5)
    path = tmp_path / "weights.safetensors"
    save_file(first.module.state_dict(), path)
    second = load_backbone(source, weights=path, image_size=64)
    assert second.num_classes == 5
    assert second.class_names is None
    assert second.identity.fingerprint == first.identity.fingerprint
    assert second.weights_file == str(path)
    with pytest.raises(InputError, match="expected 5 class names, one for each logit, got 2"):
        load_backbone(source, weights=path, image_size=64, class_names=["a", "b"])
    with pytest.raises(BackboneError, match="do not fit"):
        load_backbone(source.replace("resnet18", "resnet34"), weights=path)


def test_notes_of_a_weight_file_are_honoured(tmp_path):
    model = timm.create_model("vit_tiny_patch16_224", img_size=(32, 48), num_classes=2)
    notes = {
        "img_size": "32,48",
        "mean": "0.1,0.2,0.3",
        "std": "0.4,0.5,0.6",
        "imagenet_labels": "[1, 0]",
    }
    save_file(model.half().state_dict(), tmp_path / "w.safetensors", metadata=notes)
    backbone = load_backbone("timm/vit_tiny_patch16_224", weights=tmp_path / "w.safetensors")
    assert backbone.preprocessing.crop == (32, 48)
    assert backbone.preprocessing.mean == (0.1, 0.2, 0.3)
    assert backbone.preprocessing.std == (0.4, 0.5, 0.6)
    assert backbone.class_names == ("goldfish, Carassius auratus", "tench, Tinca tinca")
    assert backbone.feature_shapes[-1] == (192, 2, 3)
    assert next(backbone.parameters()).dtype == torch.float32
    notes["imagenet_labels"] = "[5000]"
    save_file(model.state_dict(), tmp_path / "bad.safetensors", metadata=notes)
    with pytest.raises(StorageError, match="imagenet_labels"):
        load_backbone("timm/vit_tiny_patch16_224", weights=tmp_path / "bad.safetensors")


def test_the_position_embedding_gives_the_input_size(tmp_path):
    model = timm.create_model("vit_tiny_patch16_224", img_size=48, num_classes=2)
    save_file(model.state_dict(), tmp_path / "w.safetensors")
    backbone = load_backbone("timm/vit_tiny_patch16_224", weights=tmp_path / "w.safetensors")
    assert backbone.preprocessing.crop == (48, 48)


@pytest.mark.parametrize("source", ["timm/vit_tiny_patch16_224", "torchvision/resnet18"])
def test_the_recipe_rebuilds_the_classifier(source, tmp_path):
    backbone = load_backbone(source, pretrained=False, image_size=64, num_classes=3)
    save_file(backbone.module.state_dict(), tmp_path / "w.safetensors")
    recipe = json.loads(json.dumps(backbone.recipe))
    again = load_backbone(
        recipe.pop("source"),
        weights=tmp_path / "w.safetensors",
        layers=list(backbone.layers),
        **recipe.pop("model_args"),
        **recipe,
    )
    assert again.identity.fingerprint == backbone.identity.fingerprint
    assert again.feature_shapes == backbone.feature_shapes
    assert again.preprocessing == backbone.preprocessing


def test_a_bare_module_gets_the_commonest_preprocessing():
    backbone = load_backbone(small_net())
    assert backbone.preprocessing == Preprocessing()
    assert backbone.identity.source == "module"
    assert backbone.layers == ("1",)
    assert load_backbone(small_net(), image_size=20).preprocessing.crop == (20, 20)
    assert load_backbone(small_net(channels=1)).preprocessing.channels == 1


def test_a_bare_module_of_one_input_size():
    model = nn.Sequential(nn.Conv2d(1, 2, 1), nn.Flatten(), nn.Linear(2 * 28 * 28, 3))
    assert load_backbone(model).preprocessing.crop == (28, 28)
    odd = nn.Sequential(nn.Conv2d(3, 2, 1), nn.Flatten(), nn.Linear(2 * 29 * 31, 3))
    with pytest.raises(BackboneError, match="pass preprocessing="):
        load_backbone(odd)
    assert load_backbone(odd, image_size=(29, 31)).feature_shapes == ((2, 29, 31),)


def test_a_bare_timm_model_keeps_its_own_preprocessing():
    backbone = load_backbone(timm.create_model("tf_efficientnet_lite0", num_classes=3))
    assert backbone.preprocessing.mean == (0.5, 0.5, 0.5)
    assert backbone.preprocessing.interpolation == "bicubic"


def test_a_backbone_passes_through():
    backbone = load_backbone(small_net(), image_size=16)
    assert load_backbone(backbone) is backbone
    assert load_backbone(backbone, layers="0, 1").layers == ("0", "1")
    with pytest.raises(InputError, match="loaded already"):
        load_backbone(backbone, image_size=32)


@pytest.mark.parametrize("wrong", [3, None, ["timm/resnet18"]])
def test_other_things_are_refused(wrong):
    with pytest.raises(InputError, match="expected a source"):
        load_backbone(wrong)


def test_the_embedded_classifier_knows_its_classes_and_preprocessing():
    backbone = load_backbone("ttame/efficientnet-lite0")
    assert backbone.layers == ("blocks.2", "blocks.4", "bn2")
    assert backbone.feature_shapes == ((40, 28, 28), (112, 14, 14), (1280, 7, 7))
    half = (0.5, 0.5, 0.5)
    assert backbone.preprocessing == Preprocessing((224, 224), 256, half, half, "bicubic")
    assert backbone.class_names[0].startswith("tench")
    assert backbone.class_weights.shape == (1000, 1280)


@pytest.mark.real
def test_the_embedded_classifier_recognises_photos(data_folder):
    backbone = load_backbone("ttame/efficientnet-lite0")
    right = _accuracy(backbone, data_folder / "nips2017", range(1000))
    assert right >= 20


@pytest.mark.real
def test_a_real_transformer_from_a_file(data_folder):
    path = data_folder / "weights" / "vit_small_patch14_imagenette10.safetensors"
    backbone = load_backbone("timm/vit_small_patch14_dinov2", weights=path)
    assert backbone.num_classes == 10
    assert backbone.class_names[9] == "parachute, chute"
    assert backbone.feature_shapes == ((384, 16, 16),) * 4
    assert backbone.preprocessing.mean == (0.485, 0.456, 0.406)
    labels = [0, 217, 482, 491, 497, 566, 569, 571, 574, 701]
    assert _accuracy(backbone, data_folder / "imagenette_val", labels) >= 20


def _accuracy(backbone, folder, labels, count=24):
    """Photos out of ``count``, spread over the list, whose ImageNet label is predicted."""
    with (folder / "labels.csv").open() as file:
        rows = list(csv.DictReader(file))
    rows = rows[:: len(rows) // count][:count]
    prepare = backbone.preprocessing
    right = 0
    for row in rows:
        with Image.open(folder / row["file"]) as photo:
            images = prepare.normalise(prepare.pixels(photo.convert("RGB")))[None]
        with torch.no_grad():
            predicted = labels[int(backbone.logits(images).argmax())]
        right += predicted == int(row["imagenet_label"])
    return right


def test_loading_works_inside_inference_mode():
    with torch.inference_mode():
        backbone = load_backbone("timm/test_resnet", pretrained=False, image_size=64)
    images = torch.zeros(1, 3, 64, 64, requires_grad=True)
    backbone(images).logits.sum().backward()
    assert images.grad is not None
