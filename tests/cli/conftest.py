"""A tiny real explainer folder, photos, and a way to call the command line."""

from __future__ import annotations

from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file
from typer.testing import CliRunner

from tiny_backbone import tiny_photos

SOURCE = "timm/test_resnet"


@pytest.fixture
def call(monkeypatch):
    """Run ``ttame`` with arguments; a wide terminal keeps table cells on one line."""
    monkeypatch.setenv("COLUMNS", "250")

    def run(*arguments):
        from ttame.cli.main import app

        return CliRunner().invoke(app, [str(argument) for argument in arguments])

    return run


@pytest.fixture(scope="session")
def classifier_weights(tmp_path_factory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("classifier") / "weights.safetensors"
    save_file(timm.create_model("test_resnet", pretrained=False).state_dict(), path)
    return path


@pytest.fixture(scope="session")
def explainer_folder(tmp_path_factory, classifier_weights) -> Path:
    import ttame

    torch.manual_seed(0)
    backbone = ttame.load_backbone(SOURCE, weights=classifier_weights)
    return ttame.new_explainer(backbone).save(tmp_path_factory.mktemp("explainer"))


@pytest.fixture
def photos(tmp_path) -> Path:
    return tiny_photos(tmp_path / "photos", 3)
