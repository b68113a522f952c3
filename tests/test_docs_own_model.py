"""docs/own-model.md: every example runs, with tiny files in the places of the user's."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import torchvision
from safetensors.torch import save_file

import ttame
from tiny_backbone import TINY_TRAINING, tiny_photos

PAGE = Path(__file__).resolve().parents[1] / "docs" / "own-model.md"
SECTIONS = {
    title: re.findall(r"^```python\n(.*?)^```", text, re.M | re.S)
    for title, text in re.findall(
        r"^## (.*?)\n(.*?)(?=^## |\Z)", PAGE.read_text(encoding="utf-8"), re.M | re.S
    )
}
QUICK = {**TINY_TRAINING, "batch_size": 4, "progress": False}


def timm_file() -> None:
    model = timm.create_model("resnet18", num_classes=3)
    save_file(model.state_dict(), "my-resnet18.safetensors")


def torchvision_file() -> None:
    torch.save(torchvision.models.resnet18(num_classes=3).state_dict(), "my-resnet18.pt")


def hugging_face_folder() -> None:
    if find_spec("ttame.backbone.huggingface") is None:
        pytest.skip("this version has no hf/ source")
    transformers = pytest.importorskip("transformers")
    config = transformers.ViTConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=16,
        image_size=32, patch_size=8, num_labels=3,
    )  # fmt: skip
    transformers.ViTForImageClassification(config).save_pretrained("my-model")
    size = {"height": 32, "width": 32}
    transformers.ViTImageProcessor(size=size).save_pretrained("my-model")


FILES = {
    "From timm": timm_file,
    "From torchvision": torchvision_file,
    "From Hugging Face": hugging_face_folder,
}


@pytest.fixture
def quick(tmp_path, monkeypatch) -> None:
    """Photos, small inputs and a short training."""
    photos = tiny_photos(tmp_path / "photos", 8, size=(70, 66))
    (tmp_path / "photo.jpg").write_bytes(min(photos.iterdir()).read_bytes())
    monkeypatch.chdir(tmp_path)
    load, train = ttame.load_backbone, ttame.train
    monkeypatch.setattr(
        ttame,
        "load_backbone",
        lambda given, **values: load(
            given, **({"image_size": 64} if str(given).startswith(("timm", "torchv")) else {}),
            **values,
        ),
    )  # fmt: skip
    monkeypatch.setattr(ttame, "train", lambda *given: train(*given, **QUICK))


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("title", [title for title, blocks in SECTIONS.items() if blocks])
def test_the_examples_of_a_section_run(title):
    FILES.get(title, lambda: None)()
    names: dict[str, Any] = {"__name__": "page"}
    for block in SECTIONS[title]:
        exec(compile(block, f"docs/own-model.md: {title}", "exec"), names)
    explainer = names["explainer"]
    assert len(list(Path().glob("explainer*/explainer.json"))) == len(SECTIONS[title])
    if "model" in names:
        assert not any(p.requires_grad for p in names["model"].parameters())
    if title == "Several labels at once":
        assert explainer.backbone.activation == "sigmoid"
        assert names["present"].shape == (4,)
    if title == "One logit":
        assert explainer.backbone.class_names == ("sound", "broken")
    if "explained" in "".join(SECTIONS[title]):
        assert list(Path("explained").glob("*.png"))


def test_all_kinds_of_models_have_an_example():
    assert {title for title, blocks in SECTIONS.items() if blocks} == {
        *FILES,
        "A network of your own",
        "One logit",
        "Several labels at once",
        "Greyscale, multi-spectral, other data",
    }
