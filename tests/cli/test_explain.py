"""``ttame explain`` end to end on a tiny classifier."""

from __future__ import annotations

import json
import re
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

import ttame
from ttame.classes import short_name
from ttame.files import slug


def test_pictures_arrays_and_numbers(call, explainer_folder, photos, tmp_path):
    out = tmp_path / "out"
    result = call("explain", photos, "-e", explainer_folder, "-o", out, "--json", "--npy")
    assert result.exit_code == 0, result.output
    assert result.stderr == ""
    assert f"9 pictures of 3 photos in {out}" in result.stdout

    content = json.loads((out / "explanations.json").read_text())
    assert content["broken"] == []
    assert content["explainer"]["source"] == "timm/test_resnet"
    files = sorted(photos.glob("*.png"))
    expected = ttame.load(explainer_folder).explain(files, classes="top3")
    assert [photo["file"] for photo in content["photos"]] == [str(file) for file in files]
    for i, photo in enumerate(content["photos"]):
        best = expected.probabilities[i].topk(5)
        assert [p["index"] for p in photo["predictions"]] == best.indices.tolist()
        assert [p["probability"] for p in photo["predictions"]] == pytest.approx(
            best.values.tolist(), abs=1e-6
        )
        for j, entry in enumerate(photo["maps"]):
            assert entry["class"] == int(expected.classes[i, j])
            assert entry["picture"] == f"{files[i].stem}-{slug(expected.label(i, j))}.png"
            assert entry["mean_mask_area"] == pytest.approx(
                float(expected.masks[i, j].mean()), abs=1e-5
            )
            array = np.load(out / entry["npy"])
            assert array.dtype == np.float32
            np.testing.assert_allclose(array, expected.maps[i, j].numpy(), rtol=1e-3, atol=1e-5)
            with Image.open(out / entry["picture"]) as picture:
                assert picture.mode == "RGB"
                assert min(picture.size) >= 448
            assert entry["picture"] in result.stdout
            assert f"{entry['probability']:.1%}" in result.stdout
    assert not list(out.glob(".*"))


def test_results_do_not_depend_on_batches_or_workers(call, explainer_folder, photos, tmp_path):
    contents = []
    for number, options in enumerate((["-b", 1], ["-b", 2, "--workers", 1])):
        out = tmp_path / str(number)
        result = call("explain", photos, "-e", explainer_folder, "-o", out, "--json", *options)
        assert result.exit_code == 0, result.output
        contents.append(json.loads((out / "explanations.json").read_text())["photos"])
    for first, second in zip(*contents, strict=True):
        assert [m["picture"] for m in first["maps"]] == [m["picture"] for m in second["maps"]]
        for a, b in zip(first["maps"], second["maps"], strict=True):
            assert a["mean_mask_area"] == pytest.approx(b["mean_mask_area"], abs=1e-4)


def test_classes_by_name_and_index(call, explainer_folder, photos, tmp_path):
    out = tmp_path / "out"
    names = ttame.load(explainer_folder).backbone.class_names
    wanted = f"{names[0]}, 7" if names else "0, 7"
    file = photos / "photo-00.png"
    result = call("explain", file, "-e", explainer_folder, "-o", out, "-c", wanted, "--json")
    assert result.exit_code == 0, result.output
    maps = json.loads((out / "explanations.json").read_text())["photos"][0]["maps"]
    assert [entry["class"] for entry in maps] == [0, 7]
    if names:
        assert short_name(names[0]) in result.stdout


def test_sub_folders_and_clashing_stems(call, explainer_folder, photos, tmp_path):
    (photos / "deep").mkdir()
    shutil.copy(photos / "photo-00.png", photos / "deep" / "photo-00.png")
    with Image.open(photos / "photo-00.png") as image:
        image.save(photos / "photo-00.bmp")
    out = tmp_path / "out"
    result = call("explain", photos, "-e", explainer_folder, "-o", out, "-c", "3")
    assert result.exit_code == 0, result.output
    found = [re.sub(r"-[^-]+$", "", p.relative_to(out).as_posix()) for p in out.rglob("*.png")]
    assert len(found) == 5
    names = {p.relative_to(out).as_posix() for p in out.rglob("*.png")}
    assert sum(name.startswith("deep/photo-00-") for name in names) == 1
    assert sum(name.startswith("photo-00-2-") for name in names) == 1


def test_broken_photos_are_listed_at_the_end(call, explainer_folder, photos, tmp_path):
    (photos / "torn.jpg").write_bytes(b"\xff\xd8\xff\xe0 no more")
    (photos / "empty.png").touch()
    out = tmp_path / "out"
    arguments = ("-e", explainer_folder, "-o", out, "-c", "top1", "--json")
    result = call("explain", photos, photos / "missing.jpg", *arguments)
    assert result.exit_code == 1, "a photo was named that does not exist"
    lines = result.stderr.splitlines()
    assert len(lines) == 3
    assert all(line.startswith("left out: ") for line in lines)
    for name in ("torn.jpg", "empty.png", "missing.jpg"):
        assert sum(name in line for line in lines) == 1
    assert "3 pictures of 3 photos" in result.stdout
    assert "3 could not be read" in result.stdout
    broken = json.loads((out / "explanations.json").read_text())["broken"]
    assert len(broken) == 3
    assert all(entry["reason"] for entry in broken)


def test_broken_photos_of_a_folder_do_not_fail_the_command(
    call, explainer_folder, photos, tmp_path
):
    (photos / "empty.png").touch()
    result = call("explain", photos, "-e", explainer_folder, "-o", tmp_path / "out", "-c", "top1")
    assert result.exit_code == 0, result.output
    assert "1 could not be read" in result.stdout


def test_nothing_but_broken_photos_fails(call, explainer_folder, tmp_path):
    (tmp_path / "torn.jpg").write_bytes(b"no photo")
    result = call("explain", tmp_path, "-e", explainer_folder, "-o", tmp_path / "out")
    assert result.exit_code == 1
    assert result.stderr.startswith("left out: ")
    assert "Traceback" not in result.output


def test_a_typo_names_the_nearest_class(call, explainer_folder, photos, tmp_path):
    result = call("explain", photos, "-e", explainer_folder, "-o", tmp_path, "-c", "99999")
    assert result.exit_code == 1
    assert result.stderr.startswith("error: expected a class index in 0..999, got 99999")
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("kind", ["below a file", "a file"])
def test_an_unwritable_folder_is_refused_before_anything_is_loaded(
    call, photos, tmp_path, monkeypatch, kind
):
    def never(*arguments, **keywords):
        raise AssertionError("loaded")

    monkeypatch.setattr("ttame.storage.load", never)
    (tmp_path / "file").touch()
    out = tmp_path / "file" / "out" if kind == "below a file" else tmp_path / "file"
    result = call("explain", photos, "-o", out)
    assert result.exit_code == 1
    assert result.stderr.startswith("error: cannot write into")
    assert result.stderr.count("\n") == 1


def test_a_folder_without_explainer_is_one_line(call, photos, tmp_path):
    result = call("explain", photos, "-e", tmp_path / "none", "-o", tmp_path / "out")
    assert result.exit_code == 1
    assert result.stderr.startswith("error: no explainer in ")


def test_another_classifier_needs_force(
    call, explainer_folder, classifier_weights, photos, tmp_path
):
    from safetensors.torch import load_file, save_file

    state = load_file(classifier_weights)
    key = next(key for key in state if state[key].is_floating_point())
    state[key] = state[key] + 1
    other = tmp_path / "other.safetensors"
    save_file(state, other)
    common = ("explain", photos, "-e", explainer_folder, "-o", tmp_path / "out", "-c", "0")
    for model in ((), ("--model", "timm/test_resnet")):
        refused = call(*common, *model, "--weights", other)
        assert refused.exit_code == 1
        assert "fingerprint" in refused.stderr
        forced = call(*common, *model, "--weights", other, "--force")
        assert forced.exit_code == 0, forced.output
        assert forced.stderr.startswith("warning: ")


def test_undefined_numbers_are_null_in_the_json_file(tmp_path):
    from ttame.cli.results import ResultsFolder
    from ttame.explanation import Explanation

    nan = torch.full((1, 2), float("nan"))
    explanation = Explanation(
        logits=nan,
        probabilities=nan,
        classes=torch.tensor([[1, 0]]),
        maps=torch.zeros(1, 2, 2, 2),
        masks=torch.full((1, 2, 2, 2), 0.5),
        pixels=torch.ones(1, 3, 8, 8),
        class_names=("same name", "Same, name"),
    )
    results = ResultsFolder(tmp_path, arrays=True)
    results.add(explanation, 0, "\udcff.jpg", tmp_path.relative_to(tmp_path) / "x")
    content = json.loads(results.write_json({"classifier": "tiny"}).read_text())
    (photo,) = content["photos"]
    assert photo["file"] == "\udcff.jpg"
    assert [entry["probability"] for entry in photo["maps"]] == [None, None]
    assert [entry["mean_mask_area"] for entry in photo["maps"]] == [0.5, 0.5]
    assert len({entry["picture"] for entry in photo["maps"]}) == 2
    assert sorted(p.name for p in tmp_path.glob("*.npy")) == ["x-same-name.npy", "x-same.npy"]
