from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from references.slow_scores import slow_scores
from tiny_backbone import tiny_backbone, tiny_photos
from ttame.benchmarking.benchmark_result import KEYS, BenchmarkResult
from ttame.benchmarking.evaluation import evaluate
from ttame.benchmarking.halves import half_of
from ttame.errors import BackboneError, ImageError, InputError, UnknownNameError
from ttame.images.listing import list_photos
from ttame.images.reading import read_image
from ttame.methods.registry import Method

CROP = (32, 24)
COLUMNS = [
    f"{name}_{share}{matched}"
    for matched in ("", "_matched")
    for share in (100, 50, 15)
    for name in ("ad", "ic", "ag")
]


class Nothing:
    """An attention mechanism of which there is nothing to tell."""

    def __getattr__(self, name):
        return None


class SumExplainer(nn.Module):
    """Explains every class by the channel sum of the last feature map."""

    def __init__(self):
        super().__init__()
        self.backbone = tiny_backbone(CROP)
        self.mask_form = "minmax"
        self.smoothing = 0.0
        self.upsampling = "bilinear"
        self.detail = 0.0
        self.attention = Nothing()
        self.device = torch.device("cpu")

    def raw(self, images):
        return self.backbone(images).features[-1].sum(dim=1, keepdim=True)

    def forward(self, images, classes):
        maps = self.raw(images)
        low, high = maps.amin((2, 3), keepdim=True), maps.amax((2, 3), keepdim=True)
        return SimpleNamespace(maps=maps, masks=(maps - low) / (high - low))


@pytest.fixture(scope="module")
def explainer():
    return SumExplainer().eval()


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return tiny_photos(tmp_path_factory.mktemp("photos"), 8)


@pytest.fixture(scope="module")
def evaluation(explainer, photos):
    return evaluate(explainer, photos, batch_size=3)


def test_every_image_method_and_metric_is_there(evaluation):
    frame = evaluation.per_image
    assert list(frame.columns) == [
        *KEYS,
        *COLUMNS,
        "mask_area",
    ]
    methods = ["ttame", "gradcam", "random", "all_ones", "centre_gaussian"]
    assert list(frame["method"]) == [method for method in methods for _ in range(8)]
    assert not frame.isna().any().any()
    assert set(frame["set"]) == {"photos"}
    assert not frame["nan_map"].any()
    assert (frame["class_name"] == "class " + frame["class_index"].astype(str)).all()
    assert frame.groupby("file")["probability"].nunique().eq(1).all()


@pytest.mark.parametrize("share", [1.0, 0.5, 0.15])
def test_scores_equal_the_definitions_written_out_by_hand(explainer, photos, evaluation, share):
    values = evaluation.values("ttame")
    preprocessing = explainer.backbone.preprocessing
    for row, photo in zip(values.to_dict("records"), list_photos(photos), strict=True):
        pixels = preprocessing.pixels(read_image(photo.path))
        raw = explainer.raw(preprocessing.normalise(pixels[None]))[0, 0]
        expected = slow_scores(explainer.backbone.module, pixels, raw, share, 0.5, 0.25)
        came = [row[f"{name}_{100 * share:g}"] for name in ("ad", "ic", "ag")]
        assert [*came, row["mask_area"]] == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("batch_size", [1, 8])
def test_results_do_not_depend_on_the_batch_size(explainer, photos, evaluation, batch_size):
    other = evaluate(explainer, photos, batch_size=batch_size)
    pd.testing.assert_frame_equal(
        # As shares: 1e-6 of the full scale.
        other.per_image[[*COLUMNS, "probability"]] / 100,
        evaluation.per_image[[*COLUMNS, "probability"]] / 100,
        rtol=0,
        atol=1e-6,
    )


def test_all_ones_changes_nothing(evaluation):
    values = evaluation.values("all_ones")
    plain = [column for column in COLUMNS if not column.endswith("matched")]
    assert (values[plain] == 0).all().all()
    assert (values["mask_area"] == 1).all()


def test_a_monotone_change_of_the_map_leaves_matched_scores_unchanged(explainer, photos):
    def steps(power):
        def function(backbone, images, classes):
            base = (images[:, :1] * 20).round().clamp(-80, 80)
            return ((base + 81) / 200) ** power

        return Method(f"power {power}", f"Power {power}", function)

    evaluation = evaluate(explainer, photos, methods=[steps(1), steps(3)])
    one, three = evaluation.values("power 1"), evaluation.values("power 3")
    matched = [column for column in COLUMNS if column.endswith("matched")]
    np.testing.assert_array_equal(one[matched], three[matched])
    assert not np.allclose(one["ad_100"], three["ad_100"])


def test_nan_and_constant_maps_count_as_black_images(explainer, photos):
    nan = Method("nan", "NaN", lambda b, images, classes: images[:, :1] * torch.nan)
    flat = Method("flat", "Flat", lambda b, images, classes: torch.full_like(images[:, :1], 3.0))
    evaluation = evaluate(explainer, photos, methods=[nan, flat], images=4)
    np.testing.assert_allclose(evaluation.values("nan"), evaluation.values("flat"), atol=1e-4)
    assert evaluation.per_image.groupby("method")["nan_map"].sum().to_dict() == {
        "ttame": 0,
        "nan": 4,
        "flat": 0,
    }
    assert evaluation.to_dict()["details"]["nan"]["nan_maps"] == 4


def test_a_method_that_fails_ends_it_and_nothing_is_written(explainer, photos, tmp_path):
    def fail(backbone, images, classes):
        raise BackboneError("no such layer")

    with pytest.raises(BackboneError, match="no such layer"):
        evaluate(explainer, photos, methods=[Method("bad", "Bad", fail)], out=tmp_path / "out")
    assert not (tmp_path / "out" / "results.json").exists()


def test_a_map_too_wide_for_float32_counts_as_zeros(explainer, photos):
    def wide(backbone, images, classes):
        maps = images[:, :1, :4, :4].clone()
        maps[0, 0, 0, :2] = torch.tensor([-3e38, 3e38])
        return maps

    values = evaluate(explainer, photos, methods=[Method("wide", "Wide", wide)], batch_size=8)
    rows = values.per_image.query("method == 'wide'")
    assert rows["nan_map"].tolist() == [True] + [False] * 7
    assert not rows[COLUMNS].isna().any().any()


def test_one_image(explainer, photos):
    evaluation = evaluate(explainer, sorted(photos.iterdir())[0], methods=[])
    summary = evaluation.summary()
    assert (summary["n"] == 1).all()
    assert (summary["low"] == summary["high"]).all()
    np.testing.assert_allclose(summary["low"], summary["mean"])


def test_results_file_layout(explainer, photos, tmp_path):
    seen = []
    evaluation = evaluate(
        explainer,
        photos,
        methods=("gradcam", "ttame"),
        shares=(0.5,),
        images=5,
        batch_size=2,
        out=tmp_path / "new" / "folder",
        progress=lambda done, total: seen.append((done, total)),
    )
    folder = tmp_path / "new" / "folder"
    names = ["comparisons", "curves", "results", "timings"]
    assert {path.name for path in folder.iterdir()} == {
        "per_image.csv",
        *(f"{name}.json" for name in names),
    }
    assert seen == [(2, 5), (4, 5), (5, 5)]
    results = json.loads((folder / "results.json").read_text())
    assert list(results["methods"]) == ["ttame", "gradcam"]
    cell = results["methods"]["ttame"]["ad_50_matched"]
    assert set(cell) == {"mean", "low", "high", "n"}
    assert cell["low"] <= cell["mean"] <= cell["high"]
    assert cell["n"] == 5
    assert cell["mean"] == pytest.approx(evaluation.values("ttame")["ad_50_matched"].mean())
    assert results["details"]["gradcam"]["layer"] == "2"
    assert {"mask_space", "fill", "quantile_rule", "normalisation"} <= set(results["conventions"])
    assert results["versions"]["torch"] == torch.__version__.split("+")[0]
    assert len(results["data"]["digest"]) == 64
    assert results["seed"] == 0
    table = pd.read_csv(folder / "per_image.csv")
    pd.testing.assert_frame_equal(table, evaluation.per_image, check_dtype=False)
    again = BenchmarkResult.load(folder)
    assert json.dumps(again.to_dict()) == json.dumps(evaluation.to_dict())
    compared = again.comparisons["metrics"]["ad_50"]["methods"]
    assert len(compared) == 1
    files = [file for file in table["file"] if half_of(Path(file).name) == "choosing"]
    half = again.of_half("choosing")
    assert 0 < len(half.per_image) < len(table)
    assert list(half.per_image["file"]) == files
    assert half.comparisons != again.comparisons
    (folder / "settings.json").write_text("{}")
    with pytest.raises(InputError, match="holds a benchmark"):
        evaluate(explainer, photos, out=folder)


def test_broken_photos_are_listed_and_left_out(explainer, photos, evaluation, tmp_path):
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"no image")
    good = sorted(photos.iterdir())
    mixed = evaluate(explainer, [bad, *good[:2]], methods=["random"])
    assert [file for file, _ in mixed.broken] == [str(bad)]
    assert mixed.to_dict()["data"]["broken"] == 1
    same = evaluation.per_image.query("method == 'random'").head(2)
    plain = [column for column in COLUMNS if not column.endswith("matched")]
    np.testing.assert_allclose(mixed.values("random")[plain], same[plain], atol=1e-4)
    with pytest.raises(ImageError, match="none of the 1 photos"):
        evaluate(explainer, [bad])


def test_wrong_arguments_are_refused_before_any_work(explainer, photos):
    with pytest.raises(UnknownNameError, match="gradcam"):
        evaluate(explainer, photos, methods=["grad_cam"])
    with pytest.raises(InputError, match="different methods"):
        evaluate(explainer, photos, methods=["random", "random"])
    with pytest.raises(InputError, match=r"\(0, 1\]"):
        evaluate(explainer, photos, shares=(15,))
    with pytest.raises(UnknownNameError, match="quantile"):
        evaluate(explainer, photos, rule="quantil")
    with pytest.raises(InputError, match="seed"):
        evaluate(explainer, photos, seed=-1)


@pytest.mark.real
def test_real_photos_and_a_real_explainer(data_folder):
    import ttame

    backbone = ttame.load_backbone("timm/test_resnet", pretrained=False)
    explainer = ttame.new_explainer(backbone)
    evaluation = evaluate(explainer, data_folder / "nips2017" / "images", images=4, batch_size=3)
    assert evaluation.summary()["n"].eq(4).all()
