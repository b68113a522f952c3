"""Classifiers of every kind, trained for a step, explained, evaluated and loaded again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import ttame
from tiny_backbone import TINY_TRAINING, tiny_photos
from ttame.errors import InputError
from ttame.images.dataset import Batch
from ttame.training.config import load_preset
from ttame.training.module import ExplainerTraining


def network(channels: int = 3, classes: int = 4) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(channels, 8, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(8, 12, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(12, classes),
    ).eval()


def loaded(channels: int = 3, classes: int = 4, **arguments):
    plan = ttame.Preprocessing(
        crop=(24, 24), resize=None, mean=(0.5,) * channels, std=(0.25,) * channels
    )
    return ttame.load_backbone(network(channels, classes), preprocessing=plan, **arguments)


def trained(backbone, data, out: Path, **settings):
    quick = {**TINY_TRAINING, "batch_size": 4, **settings}
    return ttame.train(backbone, data, out, progress=False, **quick)


def goes_the_whole_way(backbone, data, out: Path, **settings):
    """Train, load again, explain, evaluate; return the loaded explainer."""
    explainer = trained(backbone, data, out, **settings)
    again = ttame.load(out, backbone=backbone.module)
    assert again.backbone.activation == backbone.activation
    images = torch.randn(2, backbone.preprocessing.channels, 24, 24)
    first, second = explainer(images, "top2"), again(images, "top2")
    assert torch.equal(first.maps, second.maps)
    assert torch.equal(first.probabilities, second.probabilities)
    evaluation = ttame.evaluate(again, data, methods=["random"])
    assert evaluation.per_image["ad_50"].between(0, 100).all()
    p = evaluation.per_image["probability"]
    assert p.between(0, 1).all()
    return again


def test_greyscale_photos_from_a_folder(tmp_path):
    folder = tiny_photos(tmp_path / "photos", 12)
    for path in folder.iterdir():
        with Image.open(path) as photo:
            photo.convert("L").save(path)
    explainer = goes_the_whole_way(loaded(channels=1), folder, tmp_path / "out")
    path = min(folder.iterdir())
    explanation = explainer.explain(path)
    assert explanation.pixels.shape == (1, 1, 24, 24)
    with Image.open(path) as photo:
        array = np.asarray(photo)
    for form in (array, array[..., None], torch.from_numpy(array.copy())[None]):
        assert torch.equal(explainer.explain(form).maps, explanation.maps)
    assert explanation.picture(0).mode == "RGB"


@pytest.mark.parametrize("channels", [2, 4, 6])
def test_multispectral_arrays(channels, tmp_path):
    arrays = np.random.default_rng(0).random((12, 26, 30, channels), dtype=np.float32)
    backbone = loaded(channels=channels)
    explainer = goes_the_whole_way(backbone, arrays, tmp_path / "out")
    explanation = explainer.explain(arrays[:3])
    assert explanation.pixels.shape == (3, channels, 24, 24)
    assert explanation.overlay(1).size == (24, 24)
    with pytest.raises(InputError, match="which photo files do not have"):
        trained(backbone, tiny_photos(tmp_path / "photos", 8), tmp_path / "other")
    with pytest.raises(InputError, match=f"reads {channels} channels"):
        explainer.explain(tmp_path / "photos")
    with pytest.raises(InputError, match=f"reads {channels} channels"):
        ttame.evaluate(explainer, tmp_path / "photos", methods=["random"])


def test_a_torch_data_set(tmp_path):
    tensors = torch.rand(10, 3, 26, 26)
    data = torch.utils.data.TensorDataset(tensors, torch.zeros(10))
    explainer = goes_the_whole_way(loaded(), data, tmp_path / "out")
    assert explainer.provenance["training"]["photos"] == 8
    result = ttame.benchmark(
        explainer, data, images=4, methods=["random"], measures=["confidence"], out=tmp_path / "b"
    )
    assert len(result.values("ttame")) == 4
    assert "data:image/" in (tmp_path / "b" / "report.html").read_text(encoding="utf-8")


def test_one_logit(tmp_path):
    backbone = loaded(classes=1, class_names=["sound", "broken"])
    explainer = goes_the_whole_way(backbone, tiny_photos(tmp_path / "p", 12), tmp_path / "out")
    assert explainer.attention.head.name == "shared"
    explanation = explainer.explain(tmp_path / "p", "broken")
    images = backbone.preprocessing.normalise(explanation.pixels)
    positive = backbone.module(images).sigmoid()[:, 0]
    torch.testing.assert_close(explanation.probabilities[:, 1], positive)
    torch.testing.assert_close(explanation.probabilities[:, 0], 1 - positive)
    # But for what the classes share, what speaks for one speaks against the other.
    both = explainer(images, "all").maps
    explainer.attention.head.directions.zero_()
    shared = explainer(images, "all").maps
    torch.testing.assert_close(both.sum(dim=1), shared.sum(dim=1), atol=1e-5, rtol=1e-4)
    assert not torch.allclose(both[:, 0], both[:, 1], atol=1e-2)


def test_multi_label(tmp_path):
    backbone = loaded(multi_label=True)
    explainer = goes_the_whole_way(backbone, tiny_photos(tmp_path / "p", 12), tmp_path / "out")
    explanation = explainer.explain(tmp_path / "p", "top2")
    assert torch.equal(explanation.probabilities, explanation.logits.sigmoid())
    assert torch.equal(explanation.classes, explanation.probabilities.topk(2, dim=1).indices)


@pytest.mark.parametrize("block", [False, True])
def test_multi_label_keeps_one_predicted_label_of_each_photo(block, monkeypatch):
    backbone = loaded(multi_label=True)
    module = ExplainerTraining(
        ttame.new_explainer(backbone), load_preset("fast", {"block": block, "shares": (1.0,)})
    )
    monkeypatch.setattr(module, "log_dict", lambda *_, **__: None)
    monkeypatch.setattr(
        "ttame.training.module.pseudo_labels", lambda *_: torch.tensor([3, 1, 0, 2])
    )
    seen = {}
    monkeypatch.setattr(
        "ttame.training.module.objective",
        lambda logits, labels, masks, weights, activation: (
            seen.update(labels=labels, activation=activation) or {"loss": logits.sum()}
        ),
    )
    asked = []
    module.attention.register_forward_hook(lambda _, inputs, __: asked.append(inputs[1]))
    module.training_step(Batch(torch.rand(4, 3, 24, 24), torch.arange(4)), 0)
    assert (seen["labels"].tolist(), seen["activation"]) == ([3, 1, 0, 2], "sigmoid")
    assert asked[0].tolist() == ([[3, 1, 0, 2]] * 4 if block else [[3], [1], [0], [2]])


def test_two_classes(tmp_path):
    explainer = goes_the_whole_way(
        loaded(classes=2), tiny_photos(tmp_path / "p", 10), tmp_path / "out"
    )
    assert explainer.backbone.class_names is None


def test_very_many_classes(tmp_path, caplog, monkeypatch):
    count = 21_000
    backbone = loaded(classes=count, class_names=[f"thing {index}" for index in range(count)])
    explainer = goes_the_whole_way(backbone, tiny_photos(tmp_path / "p", 8), tmp_path / "out")
    assert sum(p.numel() for p in explainer.attention.parameters()) < 2_000
    explanation = explainer.explain(tmp_path / "p", ["thing 20999"] * 8)
    assert explanation.maps.shape[:2] == (8, 1)
    assert explanation.probabilities.shape == (8, count)
    assert "weights for its" not in caplog.text
    monkeypatch.setattr("ttame.explainer._LARGE_HEAD", 100_000)
    ttame.new_explainer(backbone, "independent")
    assert "independent head of Sequential has 441,000 weights for its 21,000 classes" in (
        caplog.text
    )
