"""``import-checkpoint``: what it says, and its errors as one line."""

from __future__ import annotations

import pytest

from made_checkpoint import SMALL, classifier, content, written


def test_it_says_what_was_imported(call, tmp_path):
    file, out = written(tmp_path / "a.ckpt", content(body=classifier())), tmp_path / "out"
    result = call("import-checkpoint", file, "--out", out)
    assert result.exit_code == 0, result.output
    assert result.stderr == ""
    assert result.stdout.splitlines() == [
        f"torchvision/{SMALL}, 5 classes, layers features.5, features.8, features.12, branch paper",
        f"classifier's weights: {out / 'classifier.safetensors'}",
        f"explainer in {out}",
    ]
    info = call("info", out)
    assert info.exit_code == 0, info.output
    for text in ("a.ckpt", "global_step 1234", "classifier.safetensors", "sigmoid", "MB"):
        assert text in info.stdout
    again = call("import-checkpoint", file, "--out", out)
    assert again.exit_code == 1
    assert again.stderr == f"error: {out} holds an explainer already; choose another folder\n"


@pytest.mark.parametrize(
    ("settings", "options", "message"),
    [
        ({"attention_version": "new"}, [], "say it with branch= (--branch)"),
        ({"attention_version": "new"}, ["--branch", "no_skip"], "did you mean 'no-skip'"),
        ({"train_method": "other"}, [], "say it with fill= (--fill)"),
        ({}, ["--model", "timm/resnet50"], "expected one of torchvision's classifiers"),
        ({}, ["--layers", "features.5"], "not known: generic.attn_mech.convs.1.weight"),
        ({}, ["--weights", "nowhere.safetensors"], "expected a weight file at nowhere"),
    ],
)
def test_errors_are_one_line(call, tmp_path, settings, options, message):
    file = written(tmp_path / "a.ckpt", content(body=classifier()), **settings)
    result = call("import-checkpoint", file, "--out", tmp_path / "out", *options)
    assert result.exit_code == 1
    assert result.stderr.startswith("error: ")
    assert message in result.stderr
    assert result.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()
