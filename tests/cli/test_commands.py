"""``train``, ``evaluate``, ``layers``, ``info`` and ``methods`` end to end."""

from __future__ import annotations

import json

import pytest

import ttame
from tiny_backbone import tiny_photos
from ttame.backbone.contract import LayerInfo
from ttame.cli.layers import outer_layers
from ttame.cli.train import merge
from ttame.errors import InputError, TtameError

SOURCE = "timm/test_resnet"


def test_train_writes_an_explainer(call, classifier_weights, tmp_path):
    data, out = tiny_photos(tmp_path / "photos", 12), tmp_path / "out"
    result = call(
        *("train", "--model", SOURCE, "--weights", classifier_weights, "--data", data),
        *("--out", out, "--epochs", 1, "--batch-size", 4, "--workers", 0, "--device", "cpu"),
        *("--precision", "32-true", "--val-share", 0.25, "--set", "area-weight=0.5"),
    )
    assert result.exit_code == 0, result.output
    assert f"explainer in {out}" in result.stdout
    explainer = ttame.load(out)
    config = explainer.provenance["training"]["config"]
    assert (config["epochs"], config["batch_size"], config["area_weight"]) == (1, 4, 0.5)
    for name in explainer.provenance["scores"]["validation"]:
        assert name in result.stdout
    again = call("train", "-m", SOURCE, "-w", classifier_weights, "-d", data, "-o", out)
    assert again.exit_code == 1
    assert "holds an explainer already" in again.stderr


def test_a_multi_label_classifier(call, classifier_weights, tmp_path):
    data, out = tiny_photos(tmp_path / "photos", 8), tmp_path / "out"
    model = ("--model", SOURCE, "--weights", classifier_weights)
    result = call(
        *("train", *model, "--multi-label", "--data", data, "--out", out, "--epochs", 1),
        *("--batch-size", 4, "--workers", 0, "--device", "cpu", "--precision", "32-true"),
        *("--val-share", 0.25),
    )
    assert result.exit_code == 0, result.output
    assert ttame.load(out).backbone.activation == "sigmoid"
    assert "sigmoid" in call("info", out).stdout
    # The folder says so where another classifier is named too.
    named = call("evaluate", *model, "-e", out, "-d", data, "--methods", "random", "-n", 2)
    assert named.exit_code == 0, named.output
    refused = call(
        "benchmark", "-e", out, *model, "--no-multi-label", "-d", data, "--out", out / "b"
    )
    assert refused.exit_code == 1
    assert "leave out --multi-label" in " ".join(refused.stderr.split())
    alone = call(
        *("benchmark", *model, "--multi-label", "-d", data, "-n", 2, "--methods", "random"),
        *("--metrics", "confidence", "--no-report", "--out", tmp_path / "b", "--device", "cpu"),
    )
    assert alone.exit_code == 0, alone.output
    settings = json.loads((tmp_path / "b" / "settings.json").read_text())
    assert '"activation": "sigmoid"' in json.dumps(settings)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--preset", "fats"], "unknown preset 'fats'; did you mean 'fast'?"),
        (["--set", "epoch=3"], "unknown training setting 'epoch'; did you mean 'epochs'?"),
        (["--set", "epochs=x"], "expected epochs of type int, got 'x'"),
        (["--set", "weights=x"], "unknown training setting 'weights' (it is an option"),
        (
            ["--set", "multi_label=1"],
            "unknown training setting 'multi_label' (it is an option: --m",
        ),
        (["--epochs", "2", "--set", "epochs=3"], "epochs is given twice"),
        (["--data", "nowhere"], "photos 'nowhere' do not exist"),
        (["--out", "file/out"], "cannot write into file/out"),
    ],
)
def test_train_refuses_before_torch_is_needed(call, tmp_path, monkeypatch, options, message):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("ttame.training.run.train", lambda *a, **k: pytest.fail("trained"))
    (tmp_path / "file").touch()
    result = call("train", "-m", SOURCE, "-d", tmp_path, "-o", "out", *options)
    assert result.exit_code == 1
    assert result.stderr.startswith(f"error: {message}")
    assert result.stderr.count("\n") == 1


def test_an_interrupted_training_says_how_to_go_on(call, tmp_path, monkeypatch):
    def interrupted(*arguments, **keywords):
        raise KeyboardInterrupt

    monkeypatch.setattr("ttame.training.run.train", interrupted)
    result = call("train", "-m", SOURCE, "-d", tmp_path, "-o", tmp_path / "out")
    assert result.exit_code == 130
    assert result.stderr.startswith("stopped: no epoch was finished")
    (tmp_path / "out" / "training").mkdir(parents=True)
    (tmp_path / "out" / "training" / "last.ckpt").touch()
    result = call("train", "-m", SOURCE, "-d", tmp_path, "-o", tmp_path / "out")
    assert result.exit_code == 130
    assert result.stderr.startswith(f"stopped: what was finished is in {tmp_path / 'out'}")
    assert "--resume" in result.stderr


@pytest.mark.parametrize(
    ("options", "expected"), [([], None), (["--multi-label"], True), (["--no-multi-label"], False)]
)
def test_multi_label_is_said_or_left_to_the_model(call, tmp_path, monkeypatch, options, expected):
    came = {}

    def train(*arguments, **keywords):
        came.update(keywords)
        raise TtameError("enough")

    monkeypatch.setattr("ttame.training.run.train", train)
    call("train", "-m", SOURCE, "-d", tmp_path, "-o", tmp_path / "out", *options)
    assert came["multi_label"] is expected


def test_merge():
    assert merge({"lr": 0.1}, ["area-weight=2"]) == {"lr": 0.1, "area_weight": "2"}
    with pytest.raises(InputError, match="lr is given twice"):
        merge({"lr": 0.1}, ["lr=2"])


def test_evaluate_prints_and_writes_scores(call, explainer_folder, photos, tmp_path):
    out = tmp_path / "scores"
    (photos / "torn.jpg").write_bytes(b"no photo")
    result = call(
        *("evaluate", "--explainer", explainer_folder, "--data", photos, "--out", out),
        *("--methods", "random", "--shares", "100,15", "--batch-size", 2),
    )
    assert result.exit_code == 0, result.output
    assert "3 images, 1 unreadable left out" in result.stdout
    assert "AD 15 %" in result.stdout
    assert "AD 50 %" not in result.stdout
    assert result.stderr.startswith("left out: ")
    content = json.loads((out / "results.json").read_text())
    assert list(content["methods"]) == ["ttame", "random"]
    assert (out / "per_image.csv").is_file()


def test_evaluate_names_the_nearest_method(call, explainer_folder, photos):
    result = call("evaluate", "-e", explainer_folder, "-d", photos, "--methods", "gradcm")
    assert result.exit_code == 1
    assert "unknown method 'gradcm'; did you mean 'gradcam'" in result.stderr


def test_layers_marks_the_defaults(call):
    result = call("layers", "--model", SOURCE)
    assert result.exit_code == 0, result.output
    backbone = ttame.load_backbone(SOURCE, pretrained=False)
    lines = {line.split()[0]: line for line in result.stdout.splitlines() if line.split()}
    for name, (channels, height, width) in zip(
        backbone.layers, backbone.feature_shapes, strict=True
    ):
        assert lines[name].split() == [name, str(channels), str(height), "x", str(width), "yes"]
    full = call("layers", "--model", SOURCE, "--all")
    assert all(layer.name in full.stdout for layer in backbone.candidate_layers())
    assert len(full.stdout) > len(result.stdout)


def test_layers_of_an_unknown_classifier(call):
    result = call("layers", "--model", "timm/resnet_50")
    assert result.exit_code == 1
    assert "did you mean" in result.stderr
    assert result.stderr.count("\n") == 1


def test_outer_layers():
    layers = [LayerInfo(name, (1, 1, 1)) for name in ("a", "b.0", "b.0.conv", "b", "c.1.act")]
    assert [layer.name for layer in outer_layers(layers, ["b.0"])] == ["a", "b.0", "b"]
    assert [layer.name for layer in outer_layers(layers, ["a", "b"])] == ["a", "b"]


def test_info_describes_an_explainer(call, explainer_folder):
    result = call("info", explainer_folder)
    assert result.exit_code == 0, result.output
    explainer = ttame.load(explainer_folder)
    assert explainer.backbone.identity.fingerprint in result.stdout
    assert all(layer in result.stdout for layer in explainer.backbone.layers)
    assert f"{sum(p.numel() for p in explainer.attention.parameters()):,}" in result.stdout
    assert "not recorded" in result.stdout


def test_info_of_a_trained_explainer(call, explainer_folder, tmp_path):
    description = json.loads((explainer_folder / "explainer.json").read_text())
    description["training"] = {
        "preset": "fast",
        "config": {"epochs": 4, "lr": 0.001},
        "data_digest": "abc123",
        "photos": 90,
        "validation_photos": 10,
        "epoch": 3,
        "steps": 12,
        "seconds": 1234.5,
        "versions": {"torch": "2.6"},
    }
    description["scores"] = {"validation": {"ad": 12.5}}
    (tmp_path / "explainer.json").write_text(json.dumps(description))
    result = call("info", tmp_path)
    assert result.exit_code == 0, result.output
    for text in ("abc123", "best 3 of 4", "ad 12.5", "torch 2.6", "attention.safetensors is miss"):
        assert text in result.stdout
    description["training"]["epoch"] = 0
    (tmp_path / "explainer.json").write_text(json.dumps(description))
    assert "the untrained start, better than any of 4" in call("info", tmp_path).stdout


@pytest.mark.parametrize(
    "content", [None, "{", "[]", '{"format": 1, "backbone": {}, "attention": {}}']
)
def test_info_of_what_is_no_explainer(call, tmp_path, content):
    if content is not None:
        (tmp_path / "explainer.json").write_text(content)
    result = call("info", tmp_path)
    assert result.exit_code == 1
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1


def test_methods_lists_every_registered_method(call):
    from ttame.methods.registry import methods

    result = call("methods")
    assert result.exit_code == 0, result.output
    for method in methods().values():
        assert method.name in result.stdout
        assert method.title in result.stdout
