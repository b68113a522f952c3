"""A classifier of transformers on the command line, by name alone."""

from __future__ import annotations

import pytest

from tiny_backbone import tiny_photos
from tiny_huggingface import FAMILIES, save_classifier


def test_layers_train_and_explain(call, tmp_path):
    pytest.importorskip("transformers")
    model = f"hf/{save_classifier(FAMILIES['vit'], tmp_path / 'model')}"
    layers = call("layers", "--model", model)
    assert layers.exit_code == 0, layers.output
    assert "vit.layernorm" in layers.stdout
    photos, out = tiny_photos(tmp_path / "photos", 8), tmp_path / "out"
    trained = call(
        *("train", "--model", model, "--data", photos, "--out", out, "--epochs", 1),
        *("--batch-size", 3, "--workers", 0, "--device", "cpu", "--precision", "32-true"),
        *("--val-share", 0.25),
    )
    assert trained.exit_code == 0, trained.output
    explained = call("explain", photos / "photo-00.png", "-e", out, "-o", tmp_path / "pictures")
    assert explained.exit_code == 0, explained.output
    assert list((tmp_path / "pictures").glob("*.png"))
    refused = call("layers", "--model", "hf/./nowhere")
    assert refused.exit_code == 1
    assert refused.stderr.startswith("error: expected a folder with config.json at './nowhere'")
    assert refused.stderr.count("\n") == 1
