"""``ttame benchmark`` end to end."""

from __future__ import annotations

import json

import pytest
import torch

from tiny_backbone import tiny_photos
from ttame.backbone.registry import load_backbone
from ttame.cli.benchmark import _command
from ttame.data import sample_photos

SOURCE = "timm/test_resnet"


@pytest.fixture
def folders(explainer_folder, tmp_path):
    photos = tiny_photos(tmp_path / "photos", 3)
    (photos / "torn.jpg").write_bytes(b"no photo")
    return {"e": explainer_folder, "d": photos, "o": tmp_path / "out"}


def test_the_embedded_explainer_on_its_own_photos(call, tmp_path):
    out = tmp_path / "out"
    result = call(
        *("benchmark", "--data", sample_photos()[0].parent, "--images", 2, "--out", out),
        *("--methods", "ttame,gradcam,random", "--metrics", "ad_50,adcc", "--device", "cpu"),
        *("--set", "confidence.shares=[0.5]"),
    )
    assert result.exit_code == 0, result.output
    assert f"results in {out}" in result.stdout
    assert "2 photos" in result.stdout
    content = json.loads((out / "results.json").read_text())
    assert list(content["methods"]) == ["ttame", "gradcam", "random"]
    assert content["methods"]["ttame"]["ad_50"]["n"] == 2
    assert "ad_100" not in content["methods"]["ttame"]
    assert "adcc" in content["methods"]["ttame"]
    assert content["measures"]["confidence"]["options"]["shares"] == [0.5]
    report = (out / "report.html").read_text()
    assert "Grad-CAM" in report
    assert "data:image/jpeg" in report


def test_options_reach_the_run_and_resume_goes_on(call, folders, tmp_path):
    arguments = [
        *("benchmark", "-e", folders["e"], "-d", folders["d"], "-o", folders["o"]),
        *("--methods", "random", "--metrics", "confidence", "--slow-images", 2, "--seed", 7),
        *("--also", f"my-one={folders['e']}", "--batch-size", 2, "--workers", 0),
        *("--normalisation", "positive", "--upsampling", "nearest", "--detail", 0.1),
        *("--limit", "random=1,confidence=all", "--limit", "my-one=3"),
        *("--limit", "ttame=3", "--again-images", 1),
    ]
    result = call(*arguments)
    assert result.exit_code == 0, result.output
    assert result.stderr.startswith("left out: ")
    content = json.loads((folders["o"] / "results.json").read_text())
    assert list(content["methods"]) == ["ttame", "my-one", "random"]
    assert content["methods"]["ttame"] == content["methods"]["my-one"]
    assert content["methods"]["my-one"]["ad_50"]["n"] == 2  # one of the three cannot be read
    assert content["seed"] == 7
    assert content["details"]["random"]["normalisation"] == "positive"
    assert content["settings"]["upsampling"] == "nearest"
    assert content["settings"]["detail"] == 0.1
    assert content["settings"]["slow_images"] == 2
    limits = {"random": 1, "confidence": "all", "my-one": 3, "ttame": 3}
    assert content["settings"]["limits"] == limits
    assert content["settings"]["again_images"] == 1
    assert content["methods"]["random"]["ad_50"]["n"] == 1
    again = call(*arguments)
    assert again.exit_code == 1
    assert again.stderr.startswith(f"error: {folders['o']} holds a benchmark already")
    before = (folders["o"] / "results.json").read_bytes()
    assert call(*arguments, "--resume").exit_code == 0
    assert (folders["o"] / "results.json").read_bytes() == before
    other = call(*arguments, "--resume", "--images", 1)
    assert other.exit_code == 1
    assert "holds a run with other settings (data)" in other.stderr


def test_parts_are_collected_by_a_last_call(call, folders):
    arguments = [
        *("benchmark", "-e", folders["e"], "-d", folders["d"], "-o", folders["o"]),
        *("--methods", "random", "--metrics", "confidence", "--batch-size", 2, "--workers", 0),
    ]
    for part in ("2/2", "1/2"):
        result = call(*arguments, "--part", part)
        assert result.exit_code == 0, result.output
        assert f"part {part} is in {folders['o']}" in result.stdout
        assert not (folders["o"] / "results.json").exists()
    result = call(*arguments, "--resume")
    assert result.exit_code == 0, result.output
    content = json.loads((folders["o"] / "results.json").read_text())
    assert content["methods"]["random"]["ad_50"]["n"] == 3
    assert "--part" not in content["command"]
    for wrong in (("--part", "3/2"), ("--part", "1/2", "--jobs", 2)):
        result = call(*arguments, *wrong)
        assert result.exit_code == 1
        assert "a part" in result.stderr


def test_a_model_alone_compares_the_other_methods(call, classifier_weights, folders):
    result = call(
        *("benchmark", "--model", SOURCE, "--weights", classifier_weights, "-d", folders["d"]),
        *("--no-report", "--methods", "random,all_ones", "--metrics", "ic_50", "-o", folders["o"]),
    )
    assert result.exit_code == 0, result.output
    content = json.loads((folders["o"] / "results.json").read_text())
    assert list(content["methods"]) == ["random", "all_ones"]
    assert not (folders["o"] / "report.html").exists()


def test_a_judge_has_weights_of_its_own(call, folders, tmp_path):
    torch.manual_seed(5)
    judge = load_backbone("timm/test_vit", pretrained=False)
    weights = tmp_path / "judge.pt"
    torch.save(judge.module.state_dict(), weights)
    result = call(
        *("benchmark", "-e", folders["e"], "-d", folders["d"], "-o", folders["o"], "--no-report"),
        *("--methods", "random", "--metrics", "transfer"),
        *("--judge", "timm/test_vit", "--judge-weights", weights),
    )
    assert result.exit_code == 0, result.output
    content = json.loads((folders["o"] / "results.json").read_text())
    assert content["judge"]["fingerprint"] == judge.identity.fingerprint


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--methods", "gradcm"], "unknown method 'gradcm'; did you mean 'gradcam'"),
        (["--metrics", "ad_5o"], "unknown measure or metric 'ad_5o'; did you mean 'ad_50'"),
        (["--judge-weights", "judge.pt"], "the weights 'judge.pt' are of no judge; name the judge"),
        (["--metrics", "transfer"], "the measure 'transfer' needs another classifier as judge"),
        (["--set", "confidence.rul=exact"], "unknown option of confidence 'rul'; did you mean"),
        (["--set", "confidence.shares=2"], "expected confidence.shares of type tuple"),
        (
            ["--set", 'confidence.shares=["a"]'],
            "expected confidence.shares of type tuple like",
        ),
        (["--set", "confidence.fill=null"], "expected confidence.fill of type str"),
        (["--set", "confidence.rule=exat"], "unknown rule 'exat'; did you mean 'exact'"),
        (["--set", "noise=2"], "expected --set NAME.OPTION=VALUE, got 'noise=2'"),
        (["--set", "rode.noise=2"], "unknown method or measure of this run 'rode'"),
        (["--limit", "random=few"], "expected --limit NAME=N with different names, N a number of"),
        (["--limit", "random=0"], "expected --limit NAME=N with different names, N a number of"),
        (["--limit", "random=1", "--limit", "random=2"], "expected --limit NAME=N with different"),
        (["--limit", "all-ones=1,all_ones=2"], "expected --limit NAME=N with different names"),
        (["--also", "confidence=nowhere", "--limit", "confidence=1"], "a limit of 'confidence' is"),
        (["--limit", "rise=20"], "unknown method or measure of this run 'rise'"),
        (["--also", "other"], "expected --also NAME=FOLDER"),
        (["--boxes", "nowhere.csv"], "the file of boxes 'nowhere.csv' does not exist"),
        (["--regions", "nowhere.csv"], "the file of segmentation masks 'nowhere.csv' does not"),
        (["--metrics", "iou"], "the measure 'segmentation' needs segmentation masks; give a file"),
        (["--half", "third"], "unknown half 'third'"),
        (["--data", "nowhere"], "photos 'nowhere' do not exist"),
    ],
)
def test_mistakes_are_told_in_one_line(call, folders, options, message):
    result = call(
        *("benchmark", "-e", folders["e"], "-d", folders["d"], "-o", folders["o"]),
        *("--metrics", "confidence", "--methods", "random"),
        *options,
    )
    assert result.exit_code == 1
    assert result.stderr.startswith(f"error: {message}")
    assert result.stderr.count("\n") == 1
    assert not folders["o"].exists()


def test_the_command_of_the_report_leaves_out_where_and_how_fast():
    words = ["benchmark", "--out=a", "-j", "4", "--workers=2", "--seed", "3", "--resume"]
    assert _command(words) == "ttame benchmark --seed 3 --out DIR"
