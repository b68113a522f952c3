from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

import ttame
from tiny_backbone import tiny_backbone, tiny_photos
from ttame.benchmarking.benchmark_result import KEYS, BenchmarkResult
from ttame.benchmarking.halves import arrange, half_of
from ttame.errors import BackboneError, ImageError, InputError, UnknownNameError
from ttame.images.listing import Photo
from ttame.methods.registry import Method, get_method
from ttame.metrics.measure import Measure, Metric, Scores, get_measure


@pytest.fixture(scope="module")
def explainer():
    torch.manual_seed(0)
    return ttame.new_explainer(tiny_backbone())


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return tiny_photos(tmp_path_factory.mktemp("photos"), 8)


def run(explainer, photos, **changes):
    settings = {"methods": ["random", "gradcam"], "measures": ["confidence"], "batch_size": 3}
    return ttame.benchmark(explainer, photos, **{**settings, "report": False, **changes})


@pytest.fixture(scope="module")
def saved(explainer, photos, tmp_path_factory):
    out = tmp_path_factory.mktemp("benchmark") / "new" / "out"
    seen = []
    result = run(explainer, photos, out=out, progress=lambda *now: seen.append(now))
    return result, out, seen


def brightness(name="bright", **values):
    return Method(name, name.title(), lambda b, images, classes: images[:, :1], **values)


def first_pixel(case, add=0.0):
    value = case.pixels[:, 0, 0, 0].double() + add
    return Scores({"pixel": value}, {"line": torch.stack([value, 2 * value], dim=1)})


def pixel_measure(**values):
    table = {"pixel": Metric("first pixel", True)}
    return Measure("pixel", "First pixel", first_pixel, lambda _: table, **values)


def test_rows_means_and_files(saved):
    result, out, seen = saved
    names = sorted(path.name for path in out.iterdir() if path.suffix in (".json", ".csv"))
    expected = ["comparisons.json", "curves.json", "per_image.csv", "results.json"]
    assert names == [*expected, "settings.json", "timings.json"]
    frame = result.per_image
    assert list(frame.columns[: len(KEYS)]) == list(KEYS)
    assert list(frame["method"]) == [m for m in ("ttame", "random", "gradcam") for _ in range(8)]
    # All methods explain the same class of the same photos, in the same order.
    assert frame.groupby("file")["class_index"].nunique().eq(1).all()
    assert list(frame["file"][:8]) == list(frame["file"][8:16])
    content = result.to_dict()
    cell = content["methods"]["gradcam"]["ad_50"]
    assert cell["mean"] == pytest.approx(result.values("gradcam")["ad_50"].mean())
    assert cell["low"] <= cell["mean"] <= cell["high"]
    assert cell["n"] == 8
    assert content["details"]["gradcam"]["status"] == "ok"
    assert content["details"]["gradcam"]["layer"] == "2"
    assert content["details"]["gradcam"]["forward_passes"] == 1
    assert content["details"]["gradcam"]["backward_passes"] == 1
    assert content["details"]["random"]["forward_passes"] == 0
    assert content["metrics"]["ad_50"] == {
        "title": "AD 50 %",
        "higher_is_better": False,
        "unit": "%",
    }
    assert "seconds" not in str(content)
    assert "mib" not in str(content)
    assert seen[0] == (0, 24)
    assert seen[-1] == (24, 24)
    assert result.timings["methods"]["gradcam"]["ms_per_image"] > 0
    assert result.timings["methods"]["gradcam"]["images"] == 8


def test_the_memory_is_that_of_one_photo_explained_a_second_time(explainer, photos, tmp_path):
    seen = []

    def function(backbone, images, classes):
        seen.append(len(images))
        held = torch.zeros(2**20 * len(seen) * len(images))
        return images[:, :1] + held[0]

    methods = [Method("held", "Held", function)]
    result = run(explainer, photos, methods=methods, out=tmp_path)
    assert seen == [1, 1, 3, 3, 2]
    peak = result.timings["methods"]["held"]["peak_memory_mib"]
    assert peak == pytest.approx(2 * 4, abs=0.05)
    assert BenchmarkResult.load(tmp_path).timings["methods"]["held"]["peak_memory_mib"] == peak
    # A finished run that is read again still tells it.
    again = run(explainer, photos, methods=methods, out=tmp_path, resume=True)
    assert again.timings["methods"]["held"]["peak_memory_mib"] == peak
    assert again.timings["work_seconds"] == pytest.approx(result.timings["work_seconds"])
    assert result.timings["work_seconds"] > result.timings["methods"]["held"]["seconds"] > 0


def test_equals_evaluate(explainer, photos, saved):
    # The same scores by another way: ties are seeded otherwise there, and there are none here.
    other = ttame.evaluate(explainer, photos, methods=["gradcam"]).per_image
    mine = saved[0].per_image
    keys = ["method", "file"]
    both = other.merge(mine[mine["method"] != "random"], on=keys, suffixes=("", "_mine"))
    assert len(both) == 16
    for name in ("ad_100", "ic_50", "ag_15", "mask_area", "probability"):
        np.testing.assert_allclose(both[name], both[f"{name}_mine"], atol=1e-5)


EVERY = {"methods": "all", "measures": "all"}
# Maps that are level in large parts, as gradients of so small a network are, are ranked there by
# the rounding of the device. These are not.
STEADY = ("ttame", "gradcam", "random", "centre_gaussian", "all_ones")


def test_on_a_gpu_the_scores_are_those_of_the_cpu(explainer, photos, gpu):
    judge = tiny_backbone(seed=1)
    expected = run(explainer, photos, **EVERY, judge=judge)
    found = run(explainer, photos, **EVERY, judge=judge, device="cuda")
    assert explainer.device.type == "cpu"
    assert found.timings["device"] == "cuda"
    means = found.means()
    for name, table in expected.means().items():
        assert found.methods[name]["status"] == expected.methods[name]["status"]
        assert set(means[name]) == set(table)
        if name in STEADY:
            for metric, value in table.items():
                if not metric.startswith("road"):  # its noise is drawn by the device
                    assert means[name][metric].mean == pytest.approx(value.mean, abs=0.5), (
                        name,
                        metric,
                    )


def test_on_a_gpu_a_run_repeats_whatever_the_processes(explainer, photos, gpu):
    once = run(explainer, photos, **EVERY, device="cuda")
    again = run(explainer, photos, **EVERY, device="cuda", jobs=2)
    for name in STEADY:
        pd.testing.assert_frame_equal(again.values(name), once.values(name), rtol=0, atol=1e-3)


def test_one_half_of_a_result_is_the_result_of_that_half(explainer, photos):
    # One by one, for photos to have the same neighbours in both.
    whole = run(explainer, photos, batch_size=1)
    for half in ("choosing", "reporting"):
        part, own = whole.of_half(half), run(explainer, photos, batch_size=1, half=half)
        pd.testing.assert_frame_equal(part.per_image, own.per_image)
        assert part.means() == own.means()
        assert part.comparisons == own.comparisons
        assert 0 < len(part.per_image) < len(whole.per_image)
        assert part.provenance["settings"] == own.provenance["settings"]
    names = {half: f"{number}.jpg" for number in range(9) for half in [half_of(f"{number}.jpg")]}
    torn = replace(whole, broken=tuple((f"a/{name}", "torn") for name in names.values()))
    assert torn.of_half("choosing").broken == ((f"a/{names['choosing']}", "torn"),)
    with pytest.raises(UnknownNameError, match="choosing, reporting"):
        whole.of_half("all")
    only = whole.of_half("choosing")
    with pytest.raises(InputError, match="none of the photos belongs to the reporting half"):
        only.of_half("reporting")


def test_what_is_saved_is_read_back(saved, tmp_path):
    result, out, _ = saved
    loaded = BenchmarkResult.load(out)
    pd.testing.assert_frame_equal(loaded.per_image, result.per_image, check_dtype=False)
    assert loaded.to_dict() == result.to_dict()
    assert loaded.means() == result.means()
    assert loaded.comparisons == result.comparisons
    loaded.save(tmp_path)
    for name in ("results.json", "per_image.csv", "comparisons.json", "timings.json"):
        assert (tmp_path / name).read_bytes() == (out / name).read_bytes()
    with pytest.raises(InputError, match="finished scores"):
        BenchmarkResult.load(tmp_path / "nowhere")


@pytest.mark.parametrize("batch_size", [1, 8])
def test_results_do_not_depend_on_the_batch_size(explainer, photos, saved, batch_size):
    other = run(explainer, photos, batch_size=batch_size).per_image
    mine = saved[0].per_image
    assert list(other["file"]) == list(mine["file"])
    # Where maps come from convolutions, their noise may swap the ranks of two almost equal pixels.
    exact = (mine["method"] == "random").to_numpy()
    plain = [name for name in mine.columns[len(KEYS) :] if not name.endswith("matched")]
    for rows, columns in [(exact, list(mine.columns[len(KEYS) :])), (~exact, plain)]:
        np.testing.assert_allclose(
            # As shares of the full scale; the classifier itself is noisy by 1e-6.
            *(frame.loc[rows, [*columns, "probability"]] / 100 for frame in (other, mine)),
            rtol=0,
            atol=2e-6,
        )


def test_methods_for_one_process_only_are_refused_by_many(explainer, photos, tmp_path):
    with pytest.raises(InputError, match="use jobs=1"):
        run(explainer, photos, methods=[brightness()], out=tmp_path / "out", jobs=2)


def test_a_method_that_is_not_possible_or_fails_is_told(explainer, photos, tmp_path):
    def impossible(backbone, images, classes):
        raise BackboneError("there is no attention in this classifier")

    def crash(backbone, images, classes):
        if len(images) < 3:
            raise IndexError("list index out of range")
        return images[:, :1]

    methods = [Method("none", "None", impossible), Method("crash", "Crash", crash), brightness()]
    result = run(explainer, photos, methods=methods, out=tmp_path / "out", images=7)
    assert list(result.methods) == ["ttame", "none", "crash", "bright"]
    reason = "not possible: there is no attention in this classifier"
    assert result.methods["none"]["status"] == reason
    assert result.methods["crash"]["status"] == "failed: IndexError: list index out of range"
    # Half of a method's photos would be another sample than the others'.
    assert set(result.per_image["method"]) == {"ttame", "bright"}
    assert result.means()["crash"] == {}
    assert result.means()["bright"]["ad_50"].n == 7
    log = (tmp_path / "out" / "benchmark.log").read_text()
    assert "Traceback" in log
    assert "list index out of range" in log
    assert BenchmarkResult.load(tmp_path / "out").methods["none"]["status"] == reason


def test_details_that_fail_cost_their_method_only_and_any_are_written(explainer, photos, tmp_path):
    def broken(_backbone):
        raise RuntimeError("no details today")

    odd = {"threshold": math.nan, "module": torch.nn.Identity(), "sizes": (1, 2)}
    methods = [brightness("told", details=lambda _: odd), brightness("untold", details=broken)]
    result = run(explainer, photos, methods=methods, out=tmp_path / "out")
    assert result.methods["ttame"]["status"] == result.methods["told"]["status"] == "ok"
    assert result.methods["untold"]["status"].startswith("failed: RuntimeError: no details today")
    told = BenchmarkResult.load(tmp_path / "out").methods["told"]
    assert {name: told[name] for name in odd} == {
        "threshold": None,
        "module": "Identity()",
        "sizes": [1, 2],
    }


def test_a_measure_that_fails_costs_only_its_own_values(explainer, photos):
    def sick(case):
        raise InputError("no judge today")

    table = {"health": Metric("health", True)}
    measures = [Measure("sick", "Sick", sick, lambda _: table), pixel_measure()]
    result = run(explainer, photos, measures=measures)
    assert result.methods["gradcam"]["problems"] == {"sick": "no judge today"}
    assert set(result.means()["gradcam"]) == {"pixel"}
    assert result.means()["gradcam"]["pixel"].n == 8


def test_what_a_classifier_cannot_do_is_told_whatever_its_options(explainer, photos):
    result = run(explainer, photos, methods=[get_method("rollout", residual=0.1), "random"])
    assert "vision transformers" in result.methods["rollout"]["status"]
    assert result.means()["random"]["ad_50"].n == 8


def test_measures_that_explain_again_take_a_fifth_of_the_few_photos_of_slow_methods(
    explainer, photos
):
    seen = []

    def counting(backbone, images, classes):
        seen.append(len(images))
        return images[:, :1]

    slow = Method("slow", "Slow", counting, slow=True)
    settings = {"methods": [slow, "random"], "measures": ["confidence", "class_swap"]}
    means = run(explainer, photos, slow_images=6, **settings).means()
    assert {m: means[m]["ad_50"].n for m in means} == {"ttame": 8, "slow": 6, "random": 8}
    swapped = {m: means[m]["class_swap_similarity"].n for m in means}
    assert swapped == {"ttame": 8, "slow": 2, "random": 8}
    # Warm-up, its memory, first batch, its first two again, second batch.
    assert seen == [1, 1, 3, 2, 3]


def test_slow_methods_and_measures_get_the_first_photos(explainer, photos):
    slow = brightness("slow", slow=True)
    measures = ["confidence", pixel_measure(slow=True)]
    result = run(explainer, photos, methods=[slow, "random"], measures=measures, slow_images=4)
    means = result.means()
    assert {m: means[m]["ad_50"].n for m in means} == {"ttame": 8, "slow": 4, "random": 8}
    assert {m: means[m]["pixel"].n for m in means} == {"ttame": 4, "slow": 4, "random": 4}
    assert result.curves["line"]["n"] == {"ttame": 4, "slow": 4, "random": 4}
    rows = result.per_image.groupby("method")["file"].agg(list)
    assert rows["slow"] == rows["random"][:4]
    known = result.per_image.query("method == 'random'")["pixel"].notna()
    assert list(known) == [True] * 4 + [False] * 4
    difference = result.comparisons["metrics"]["ad_50"]["methods"]
    assert [pair["n"] for pair in difference.values()] == [4]


def test_further_methods_and_measures_count_as_slow_where_asked(explainer, photos):
    settings = {"measures": ["confidence", pixel_measure()], "slow_images": 3}
    result = run(explainer, photos, slow=["pixel", "gradcam"], **settings)
    means = result.means()
    counts = {m: (means[m]["ad_50"].n, means[m]["pixel"].n) for m in means}
    assert counts == {"ttame": (8, 3), "random": (8, 3), "gradcam": (3, 3)}
    assert result.methods["gradcam"]["slow"]
    with pytest.raises(UnknownNameError, match=r"'gradcm'.*did you mean 'gradcam'"):
        run(explainer, photos, slow=["gradcm"])


def test_a_limit_of_its_own_takes_the_place_of_slow_images(explainer, photos):
    slow = brightness("slow", slow=True)
    settings = {
        "methods": [slow, "random", "gradcam"],
        "measures": ["confidence", "class_swap", pixel_measure(slow=True)],
        "slow_images": 2,
        "limits": {"slow": 6, "pixel": None, "gradcam": 5, "ttame": 4},
    }
    result = run(explainer, photos, **settings)
    means = result.means()
    counts = {m: tuple(means[m][name].n for name in ("ad_50", "pixel")) for m in means}
    assert counts == {"ttame": (4, 4), "slow": (6, 6), "random": (8, 8), "gradcam": (5, 5)}
    # Where a slow method explains again, it still gets a fifth of slow_images.
    swapped = {m: means[m]["class_swap_similarity"].n for m in means}
    assert swapped == {"ttame": 4, "slow": 1, "random": 8, "gradcam": 5}
    limits = result.provenance["settings"]["limits"]
    assert limits == {"slow": 6, "pixel": "all", "gradcam": 5, "ttame": 4}
    more = run(explainer, photos, **settings, again_images=3).means()
    assert more["slow"]["class_swap_similarity"].n == 3
    assert more["slow"]["ad_50"].n == 6


def test_no_photo_is_explained_that_no_measure_is_taken_on(explainer, photos):
    seen = []

    def counting(backbone, images, classes):
        seen.append(len(images))
        return images[:, :1]

    own = Method("own", "Own", counting)
    measures = [pixel_measure(slow=True), "confidence"]
    result = run(
        explainer, photos, methods=[own], measures=measures, slow_images=4, limits={"confidence": 2}
    )
    # Warm-up, its memory, a batch of three, the one left of the next.
    assert seen == [1, 1, 3, 1]
    assert (result.per_image.groupby("method").size() == 4).all()


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ({"gradcm": 2}, r"'gradcm'.*did you mean 'gradcam'"),
        ({"gradcam": 0}, "at least 1, or None for all, as limit of gradcam, got 0"),
        ({"gradcam": 2.5}, "as limit of gradcam, got 2.5"),
        ({"gradcam": True}, "as limit of gradcam, got True"),
        ({"road": 3}, "unknown method or measure of this run 'road'"),
    ],
)
def test_limits_that_make_no_sense_are_refused(explainer, photos, limits, message):
    with pytest.raises(InputError, match=message):
        run(explainer, photos, methods=["gradcam"], limits=limits)


def test_curves_are_means_over_photos(explainer, photos):
    result = run(explainer, photos, measures=[pixel_measure(options={"add": 1.0})])
    values = result.values("random")["pixel"]
    line = result.curves["line"]
    assert line["measure"] == "pixel"
    assert line["x"] == [0.0, 1.0]
    assert line["means"]["random"] == pytest.approx([values.mean(), 2 * values.mean()])


def test_the_halves_share_no_photo(explainer, photos):
    parts = {
        half: set(run(explainer, photos, methods=[], half=half).per_image["file"])
        for half in ("all", "choosing", "reporting")
    }
    assert parts["choosing"] | parts["reporting"] == parts["all"]
    assert not parts["choosing"] & parts["reporting"]
    frame = run(explainer, photos, methods=[]).per_image
    assert list(frame["half"]) == [half_of(file.rpartition("/")[2]) for file in frame["file"]]
    result = run(explainer, photos, methods=[])
    assert result.of_half("choosing").means()["ttame"]["ad_50"].n == len(parts["choosing"])


def test_one_image(explainer, photos, tmp_path):
    result = run(explainer, sorted(photos.iterdir())[0], out=tmp_path / "out")
    assert (result.summary()["n"] == 1).all()
    assert (result.summary()["low"] == result.summary()["high"]).all()
    pair = result.comparisons["metrics"]["ad_100"]["methods"]
    assert all(values["p"] == 1 for values in pair.values())


def test_unreadable_photos_are_listed_and_left_out(explainer, photos, saved, tmp_path):
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"no image")
    result = run(explainer, [bad, *sorted(photos.iterdir())], slow_images=3)
    assert [file for file, _ in result.broken] == [str(bad)]
    merged = result.per_image.merge(saved[0].per_image, on=["method", "file"])
    assert len(merged) == 24
    np.testing.assert_allclose(merged["ad_50_matched_x"], merged["ad_50_matched_y"], atol=1e-4)
    with pytest.raises(ImageError, match="none of the 1 photos"):
        run(explainer, [bad])


def test_nan_maps_are_counted(explainer, photos):
    nan = Method("nan", "NaN", lambda b, images, classes: images[:, :1] * math.nan)
    result = run(explainer, photos, methods=[nan])
    assert result.methods["nan"]["nan_maps"] == 8
    assert result.methods["ttame"]["nan_maps"] == 0
    assert result.means()["nan"]["mask_area"].mean == 0


def test_methods_that_draw_do_not_depend_on_what_ran_before(explainer, photos):
    draws = Method("draws", "Draws", lambda b, images, classes: torch.rand_like(images[:, :1]))
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    one = run(explainer, photos, methods=[draws], measures=["confidence"])
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(6)
    two = run(explainer, photos, methods=["random", draws], measures=["confidence"])
    pd.testing.assert_frame_equal(
        one.values("draws").reset_index(drop=True), two.values("draws").reset_index(drop=True)
    )


def test_a_report_is_written_and_its_failure_costs_nothing(
    explainer, photos, tmp_path, monkeypatch, caplog
):
    def impossible(backbone, images, classes):
        raise BackboneError("there is no attention in this classifier")

    methods = ["gradcam", Method("none", "No method", impossible)]
    run(explainer, photos, methods=methods, out=tmp_path / "out", report=True)
    page = (tmp_path / "out" / "report.html").read_text()
    assert page.count("data:image/jpeg") > 4
    assert "there is no attention in this classifier" in page
    monkeypatch.setattr("ttame.benchmarking.run.write_report", None)
    result = run(explainer, photos, methods=[], out=tmp_path / "two", report=True)
    assert result.means()["ttame"]["ad_50"].n == 8
    assert (tmp_path / "two" / "results.json").is_file()
    assert "the report could not be written" in caplog.text
    # No page of before is left beside new numbers.
    run(explainer, photos, methods=methods, out=tmp_path / "out", report=True, resume=True)
    assert not (tmp_path / "out" / "report.html").exists()


def test_boxes_are_measured_on_their_own_photos(explainer, photos, tmp_path):
    lines = ["file,label,x0,y0,x1,y1"]
    lines += [f"{photos}/photo-0{i}.png,{i},5,5,20,30" for i in range(4)]
    lines += [f"{photos}/photo-00.png,1,0,0,40,36"]
    boxes = tmp_path / "boxes.csv"
    boxes.write_text("\n".join(lines))
    result = run(explainer, photos, measures=["confidence", "localisation"], boxes=boxes)
    marked = result.per_image.query("set == 'marked' and method == 'random'")
    assert sorted(marked["class_index"]) == [0, 1, 1, 2, 3]
    assert marked["ad_50"].isna().all()
    means = result.means()["random"]
    assert means["ad_50"].n == 8
    assert means["energy_pointing"].n == 5
    # The box of the whole photo holds all of the map.
    whole = marked.query("class_index == 1 and file.str.endswith('00.png')")
    assert whole["energy_pointing"].item() == pytest.approx(100)
    only = run(explainer, photos, measures=["localisation"], boxes=boxes)
    assert set(only.per_image["set"]) == {"marked"}
    with pytest.raises(InputError, match="no measure needs them"):
        run(explainer, photos, boxes=boxes)
    boxes.write_text(f"file,label,x0,y0,x1,y1\n{photos}/photo-00.png,5,0,0,9,9")
    with pytest.raises(InputError, match=r"label 5 .* is no class of tiny"):
        run(explainer, photos, measures=["localisation"], boxes=boxes)


def test_regions_are_measured_with_the_boxes_of_the_same_photos(explainer, photos, tmp_path):
    (tmp_path / "masks").mkdir()
    half = Image.new("L", (40, 36))
    half.paste(7, (0, 0, 20, 36))
    half.save(tmp_path / "masks" / "left.png")
    Image.new("L", (40, 36), 1).save(tmp_path / "masks" / "whole.png")
    lines = [f"{photos}/photo-0{i}.png,{i},masks/left.png" for i in range(3)]
    lines += [f"{photos}/photo-03.png,,masks/whole.png"]
    regions, boxes = tmp_path / "regions.csv", tmp_path / "boxes.csv"
    regions.write_text("\n".join(["file,label,mask", *lines]))
    # The same photo by another path, and one without a mask.
    lines = [
        f"{photos}/../{photos.name}/photo-00.png,0,0,0,20,36",
        f"{photos}/photo-04.png,1,0,0,9,9",
    ]
    boxes.write_text("\n".join(["file,label,x0,y0,x1,y1", *lines]))
    settings = {"measures": ["segmentation", "localisation"], "out": tmp_path / "out"}
    result = run(explainer, photos, report=True, regions=regions, boxes=boxes, **settings)
    assert set(result.per_image["set"]) == {"marked"}
    rows = result.per_image.query("method == 'gradcam'")
    rows = rows.assign(name=rows["file"].str[-6:-4]).set_index("name")
    assert sorted(rows.index) == ["00", "01", "02", "03", "04"]
    assert list(rows["iou"].isna()[["00", "03", "04"]]) == [False, False, True]
    assert list(rows["pointing"].isna()[["00", "03", "04"]]) == [False, True, False]
    # Left half as a mask and as a box; the whole photo as a mask, of the predicted class.
    assert rows.loc["00", "mass_in_mask"] == pytest.approx(rows.loc["00", "energy_pointing"])
    assert rows.loc["03", "mass_in_mask"] == rows.loc["03", "iou"] == 100
    assert 0 < rows.loc["01", "mass_in_mask"] < 100
    assert "5 marked" in (tmp_path / "out" / "report.html").read_text()
    # Boxes of one photo, masks of others: any photo drawn lacks one of both.
    boxes.write_text(f"file,label,x0,y0,x1,y1\n{photos}/photo-04.png,1,0,0,9,9")
    both = {"regions": regions, "boxes": boxes, "measures": settings["measures"]}
    kinds = set()
    for seed in range(6):
        (drawn,) = arrange([Photo(photos / f"photo-0{i}.png") for i in range(5)], "all", seed, 1)
        kinds.add(lacking := "segmentation masks" if "04" in drawn.path.name else "boxes")
        with pytest.raises(InputError, match=f"none of the 1 photos drawn has {lacking};"):
            run(explainer, photos, **both, images=1, seed=seed)
    assert len(kinds) == 2
    boxes.write_text("\n".join(["file,label,x0,y0,x1,y1", *lines]))
    # Another mask of the same name and size is another run.
    Image.new("L", (40, 36), 1).save(tmp_path / "masks" / "left.png")
    with pytest.raises(InputError, match="data marked truth"):
        run(explainer, photos, regions=regions, boxes=boxes, resume=True, **settings)
    Image.new("L", (40, 36)).save(tmp_path / "masks" / "left.png")
    with pytest.raises(InputError, match="zero everywhere"):
        run(explainer, photos, regions=regions, measures=["iou"])
    with pytest.raises(InputError, match="masks were given, but no measure needs them"):
        run(explainer, photos, regions=regions, boxes=boxes, measures=["localisation"])
    with pytest.raises(InputError, match=r"needs segmentation masks; .* \(--regions\)"):
        run(explainer, photos, measures=["iou"])


def test_without_an_explainer_the_others_are_compared(photos):
    backbone = tiny_backbone()
    result = ttame.benchmark(
        data=photos, backbone=backbone, methods=["random"], measures=["ad_50"], images=2
    )
    assert list(result.methods) == ["random"]
    for name, option in (("ttame", "--explainer"), ("lcam_img", "--also lcam_img=")):
        with pytest.raises(InputError, match=f"'{name}' needs an explainer; .*{option}"):
            ttame.benchmark(data=photos, backbone=backbone, methods=[name])


def test_several_explainers_of_one_classifier(explainer, photos):
    torch.manual_seed(1)
    other = ttame.new_explainer(tiny_backbone(), start="random")
    others = {"random start": other, "lcam_img": other}
    result = run(explainer, photos, methods=["lcam_img"], explainers=others)
    details = result.methods.values()
    titles = ["T-TAME", "random start", "L-CAM-Img"]
    assert [method["title"] for method in details] == titles
    assert ["Gkartzonika" in method["paper"] for method in details] == [False, False, True]
    # The other explainer came with a classifier object of its own.
    assert [method["forward_passes"] for method in details] == [1, 1, 1]
    with pytest.raises(InputError, match="'gradcam' belongs to a method"):
        run(explainer, photos, explainers={"gradcam": other})
    assert not result.values("ttame").equals(result.values("random start"))
    stranger = ttame.new_explainer(tiny_backbone(seed=3))
    with pytest.raises(InputError, match="compare explainers of one classifier"):
        run(explainer, photos, explainers={"stranger": stranger})


def test_upsampling_is_the_same_for_all(explainer, photos):
    run_with = {"methods": ["gradcam"], "measures": ["confidence"]}
    usual = run(explainer, photos, **run_with)
    whole = run(explainer, photos, upsampling="nearest", **run_with)
    own = ttame.Explainer(explainer.backbone, explainer.attention, upsampling="nearest")
    shown = run(own, photos, **run_with)
    assert whole.values("ttame").equals(shown.values("ttame"))
    assert shown.values("gradcam").equals(usual.values("gradcam"))
    for method in ("ttame", "gradcam"):
        assert not whole.values(method).equals(usual.values(method))
    assert whole.provenance["settings"]["upsampling"] == "nearest"


def test_detail_is_the_same_for_all_but_for_masks_that_are_given(explainer, photos):
    run_with = {"methods": ["gradcam", "all_ones"], "measures": ["confidence"]}
    usual = run(explainer, photos, **run_with)
    fine = run(explainer, photos, detail=0.3, **run_with)
    assert not fine.values("gradcam").equals(usual.values("gradcam"))
    for method in ("ttame", "all_ones"):
        assert fine.values(method).equals(usual.values(method))
    own = ttame.Explainer(explainer.backbone, explainer.attention, detail=0.3)
    shown = run(own, photos, **run_with)
    assert not shown.values("ttame").equals(usual.values("ttame"))
    assert shown.values("gradcam").equals(usual.values("gradcam"))
    settings = fine.provenance["settings"]
    assert settings["detail"] == 0.3
    with pytest.raises(InputError, match="detail from 0"):
        run(explainer, photos, detail=1.5, **run_with)


def test_normalisation_is_the_same_for_all_but_for_masks_that_are_given(explainer, photos):
    signed = Method("signed", "Signed", lambda _, images, classes: images[:, :1])
    run_with = {"methods": [signed, "all_ones"], "measures": ["confidence"]}
    usual, positive = (
        run(explainer, photos, normalisation=name, **run_with) for name in ("minmax", "positive")
    )
    # Masks stay as they are given.
    assert positive.values("ttame").equals(usual.values("ttame"))
    assert positive.values("all_ones").equals(usual.values("all_ones"))
    assert not positive.values("signed").equals(usual.values("signed"))
    assert positive.provenance["settings"]["normalisation"] == "positive"
    told = {name: details["normalisation"] for name, details in positive.methods.items()}
    assert told == {"ttame": "as_given", "signed": "positive", "all_ones": "as_given"}


def test_wrong_arguments_are_refused_before_any_work(explainer, photos, tmp_path):
    stranger = tiny_backbone(classes=4)
    stranger.class_names = [f"other {index}" for index in range(4)]
    twin = replace(pixel_measure(), name="twin")
    for error, changes in [
        (UnknownNameError, {"methods": ["grad_cam"]}),
        (UnknownNameError, {"measures": ["ad_51x"]}),
        (UnknownNameError, {"half": "third"}),
        (UnknownNameError, {"normalisation": "min-max"}),
        (InputError, {"normalisation": "as_given"}),
        (UnknownNameError, {"upsampling": "neares"}),
        (InputError, {"methods": ["random", "random"]}),
        (InputError, {"measures": ["transfer"]}),
        (InputError, {"measures": ["localisation"]}),
        (InputError, {"jobs": 0}),
        (InputError, {"images": 0}),
        (InputError, {"seed": -1}),
        (InputError, {"judge": stranger}),
        (InputError, {"judge": explainer.backbone}),
        (InputError, {"measures": [get_measure("confidence", shares=(2.0,))]}),
        (InputError, {"measures": [get_measure("insertion_deletion", deletion_fill="blck")]}),
        (InputError, {"methods": [get_method("rise", masks=0)]}),
        (InputError, {"methods": [get_method("scorecam", channels="all")]}),
        (InputError, {"measures": [pixel_measure(), twin]}),
        (InputError, {"explainers": {"ttame": explainer}}),
    ]:
        with pytest.raises(error):
            run(explainer, photos, out=tmp_path / "out", **changes)
        assert not (tmp_path / "out").exists()
