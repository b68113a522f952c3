from __future__ import annotations

from pathlib import Path

import pytest
import torch

from ttame.checkpoints.settings import settings_of
from ttame.errors import InputError, StorageError, UnknownNameError

FILE = Path("a.ckpt")
GOOD = {
    "model_name": "vgg16",
    "layers": ["features.16", "features.23"],
    "attention_version": "TTAME",
    "train_method": "raw_normalize",
    "num_classes": 1000,
    "img_size": 224,
    7: object(),
}


def test_all_values_are_read():
    found = settings_of(GOOD, FILE)
    assert (found.model, found.layers) == ("vgg16", ("features.16", "features.23"))
    assert (found.version, found.fill, found.num_classes) == ("TTAME", "black", 1000)
    assert found.image_size == (224, 224)


@pytest.mark.parametrize(
    ("name", "value", "attribute", "expected"),
    [
        ("layers", ("a", "b"), "layers", ("a", "b")),
        ("layers", "a, b", "layers", ("a", "b")),
        ("layers", {"a": "first", "b": "second"}, "layers", ("a", "b")),
        ("train_method", "new", "fill", "mean"),
        ("train_method", None, "fill", None),
        ("attention_version", 3, "version", "3"),
        ("attention_version", None, "version", None),
        ("num_classes", torch.tensor(5), "num_classes", 5),
        ("num_classes", None, "num_classes", None),
        ("img_size", (48, 64), "image_size", (48, 64)),
        ("img_size", None, "image_size", (224, 224)),
        ("model_name", "torchvision/vgg16", "model", "vgg16"),
    ],
)
def test_values_of_other_types(name, value, attribute, expected):
    assert getattr(settings_of({**GOOD, name: value}, FILE), attribute) == expected


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("model_name", None, r"expected model_name of a\.ckpt .*got none; say it with model="),
        ("model_name", 3, "expected model_name .*got 3"),
        ("layers", None, "expected layers .*got none; say it with layers="),
        ("layers", [], r"expected layers .*got \[\]"),
        ("layers", [1, 2], r"expected layers .*got \[1, 2\]"),
        ("layers", {"a", "b"}, "expected layers"),
        ("layers", 4, "expected layers .*got 4"),
        ("train_method", "old", "to be raw_normalize or new, got 'old'; say it with fill="),
        ("train_method", [1], r"raw_normalize or new, got \[1\]"),
        ("num_classes", True, "expected num_classes .*got True"),
        ("num_classes", 0, "whole number above 0, got 0"),
        ("num_classes", "1000", "expected num_classes .*got '1000'"),
        ("img_size", 224.5, "expected img_size .*got 224.5"),
        ("img_size", (1, 2, 3), "one side or .height, width., got .1, 2, 3."),
        ("img_size", "224", "expected img_size .*got '224'"),
        ("img_size", 10**9, "at most 4096, got 1000000000"),
    ],
)
def test_what_is_not_understood_is_refused_by_name(name, value, message):
    with pytest.raises(StorageError, match=message):
        settings_of({**GOOD, name: value}, FILE)


def test_the_user_goes_first():
    bad = {"model_name": 3, "layers": 4, "train_method": "old"}
    found = settings_of(bad, FILE, "torchvision/resnet50", ["layer4"], "mean")
    assert (found.model, found.layers, found.fill) == ("resnet50", ("layer4",), "mean")
    with pytest.raises(UnknownNameError, match="unknown fill 'blak'; did you mean 'black'"):
        settings_of(GOOD, FILE, fill="blak")
    with pytest.raises(InputError, match=r"one of torchvision's classifiers.*'timm/resnet50'"):
        settings_of(GOOD, FILE, model="timm/resnet50")
