from __future__ import annotations

import math
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
import torch
from PIL import Image

from made_result import METHODS, METRICS, made_result
from tiny_backbone import tiny_backbone, tiny_photos
from ttame.benchmarking.comparisons import compare
from ttame.benchmarking.means import Mean
from ttame.benchmarking.report.contact import Cell, Row, Sheet
from ttame.benchmarking.report.markup import DASH, element, nested
from ttame.benchmarking.report.page import make_page, write_report
from ttame.benchmarking.report.score_table import Column, score_table, shown
from ttame.benchmarking.report.scores import columns
from ttame.benchmarking.report.sheets import make_sheets
from ttame.errors import UnknownNameError
from ttame.methods.registry import Method, get_method
from ttame.metrics.measure import Metric

VOID = {"meta", "img", "br", "link", "input", "hr"}
EVIL = '<script>alert("x")</script>&\'"\udc80\x1b'


class Page(HTMLParser):
    """Reads a page, refusing elements that are not closed in order."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.rows, self.text = [], [], [], []
        self.feed(text)
        self.close()
        assert not self.open, self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)
        if {"td", "th"} & set(self.open):
            self.rows[-1][-1] += data

    def row(self, title, nth=0):
        return [row for row in self.rows if row and row[0] == title][nth]


def sheet(title="class 1  90.0%"):
    image = Image.new("RGB", (8, 8), (200, 30, 30))
    cells = (Cell("T-TAME", image), Cell("Grad-CAM", None, "no gradients"))
    return Sheet((Row(title, image, cells, "among its worst"),))


@pytest.fixture(scope="module")
def text():
    return make_page(made_result(), sheet(), sheet())


def test_page_holds_every_method_and_metric(text):
    page = Page(text)
    words = " ".join(page.text)
    for title in METHODS.values():
        assert sum(row[0] == title for row in page.rows) >= 2
    for metric in METRICS.values():
        assert metric.title.removesuffix(", area-matched") in words
    headings = [place for place, (tag, _) in enumerate(page.tags) if tag == "h2"]
    assert len(headings) == 9
    for name in ("Scores", "Ranks", "Curves", "Cost", "Maps", "Worst cases", "To repeat it"):
        assert name in words


def test_page_fetches_nothing(text):
    page = Page(text)
    for _, attributes in page.tags:
        for name in ("src", "srcset", "data", "href", "xlink:href", "poster", "action"):
            value = attributes.get(name)
            assert value is None or value.startswith(("#", "data:image/")), value
    assert "@import" not in text
    assert set(re.findall(r"url\((.)", text)) <= {"#"}
    assert not any(tag in ("link", "iframe", "object") for tag, _ in page.tags)


def test_every_picture_has_an_alternative_text(text):
    page = Page(text)
    images = [attributes for tag, attributes in page.tags if tag == "img"]
    drawings = [attributes for tag, attributes in page.tags if tag == "svg"]
    assert len(images) == 4
    assert all(attributes["alt"] for attributes in images)
    assert drawings
    assert all(attributes["aria-label"] for attributes in drawings)
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))


def test_scores_are_the_means(text):
    result = made_result()
    mean = result.means()["gradcam"]["ad_50_matched"]
    row = Page(text).row("Grad-CAM")
    assert row[1].startswith(f"{mean.mean:.1f}{mean.low:.1f}")
    assert f"{mean.high:.1f}" in row[1]


def test_best_is_bold_tied_is_marked_and_controls_are_set_apart():
    table = made_result().per_image
    own = table.loc[table["method"] == "ttame", "ad_50_matched"].to_numpy()
    # Better and worse by turns, a little worse in the mean: no difference can be shown.
    table.loc[table["method"] == "rise", "ad_50_matched"] = own + [2.1, -1.9] * 6
    rivals = ["ttame", "gradcam", "rise"]
    result = replace(made_result(), per_image=table, comparisons=compare(table, rivals, METRICS))
    found = columns(result)["ad_50_matched"]
    assert found.best == {"ttame"}
    assert found.tied == {"rise"}
    table = score_table({"A": [found]}, {"ttame": {}, "rise": {}, "random": {"control": True}})
    assert '<td class="best"' in table
    assert re.search(r'<td class="tied"[^>]*><span class="mark"[^>]*>≈</span>', table)
    assert '<tr class="control">' in table
    # Neither end of the mask area is better.
    assert columns(made_result())["mask_area"].best == frozenset()


def test_a_slow_method_that_beats_the_best_on_its_few_photos_is_told():
    table = made_result().per_image
    slow = (table["method"] == "rise").to_numpy()
    own = table.loc[table["method"] == "ttame", "srg"].to_numpy()
    table.loc[slow, "srg"] = [
        value + 3 if place < 9 else float("nan") for place, value in enumerate(own)
    ]
    rivals = ["ttame", "gradcam", "rise"]
    result = replace(made_result(), per_image=table, comparisons=compare(table, rivals, METRICS))
    found = columns(result)["srg"]
    assert found.best == {"ttame"}
    assert found.tied == {"rise"}
    told = "better than the best on the photos they share: SRG (RISE by 3.00 on 9 photos)"
    assert told in make_page(result)
    assert "on the photos they share" not in make_page(made_result())


def test_a_control_that_beats_all_is_told():
    result = made_result()
    result.per_image.loc[result.per_image["method"] == "random", "ad_50"] = 0.0
    assert "A control scores better than every method in AD 50 % (Random 0.0)" in make_page(result)


def test_a_method_that_is_not_possible_keeps_its_row():
    reason = "not possible: the classifier has no gradients"
    page = Page(make_page(made_result(impossible={"gradcam": reason})))
    assert page.row("Grad-CAM")[1] == reason
    failed = Page(make_page(made_result(impossible={"rise": "failed: out of memory"})))
    assert failed.row("RISE")[1] == "failed: out of memory"


def test_names_cannot_break_the_page():
    methods = {"ttame": "T-TAME", EVIL: EVIL, "random": "Random"}
    metrics = {"ad_50": Metric(EVIL, False, EVIL), EVIL: Metric("own", True)}
    result = made_result(
        methods,
        metrics,
        broken=((EVIL, EVIL),),
        conventions={EVIL: EVIL},
        provenance={"classifier": {"name": EVIL}, "command": EVIL},
    )
    text = make_page(result, sheet(EVIL), None)
    scripts = [tag for tag, _ in Page(text).tags if tag == "script"]
    assert len(scripts) == 1  # ours, for sorting
    assert "<script>alert" not in text
    text.encode()  # no surrogate is left
    assert "\x1b" not in text


@pytest.mark.parametrize("photos", [1, 2])
def test_one_photo(photos):
    page = Page(make_page(made_result(photos=photos)))
    assert page.row("T-TAME")[1]


def test_no_rivals():
    text = make_page(made_result(methods={"ttame": "T-TAME"}))
    assert "Too few methods" in text
    assert 'class="best"' not in text


def test_without_an_explainer():
    text = make_page(made_result(methods={"gradcam": "Grad-CAM", "rise": "RISE"}))
    assert re.search(r"has the best mean in \d of 4 main metrics", text)


def test_the_verdict_counts_a_family_by_its_main_metrics():
    metrics = {name: Metric(name, False) for name in ("ad_15", "ad_50", "ad_100", "ag_15_matched")}
    text = make_page(made_result(metrics=metrics))
    assert re.search(r"has the best mean in \d of 1 main metrics", text)
    strange = {name: Metric(name, False) for name in ("mine", "yours")}
    assert re.search(
        r"has the best mean in \d of 2 main metrics", make_page(made_result(metrics=strange))
    )


def test_the_verdict_tells_what_the_training_aimed_at():
    measures = {"confidence": {"title": "AD", "metrics": ["ad_50_matched", "ad_50"]}}
    text = make_page(made_result(measures=measures))
    assert re.search(r"objective is made of AD and IC: \d of these 2\.\)", text)
    assert "objective is made" not in make_page(made_result())


def test_masks_that_are_shown_otherwise_than_those_of_others_are_told():
    result = made_result()
    details = {"ttame": {**result.methods["ttame"], "upsampling": "nearest", "detail": 0.02}}
    settings = {"upsampling": "bilinear", "detail": 0.0}
    told = replace(
        result,
        methods={**result.methods, **details},
        provenance={**result.provenance, "settings": settings},
    )
    text = make_page(told)
    assert "upsampling nearest instead of bilinear and detail 0.02 instead of 0.0" in text
    same = {"upsampling": "nearest", "detail": 0.02}
    alike = replace(told, provenance={**result.provenance, "settings": same})
    assert "instead of" not in make_page(alike)
    stopped = {"ttame": {**details["ttame"], "status": "failed: no memory", "detail": 0.0}}
    failed = replace(told, methods={**result.methods, **stopped})
    assert "instead of" not in make_page(failed)
    assert "more than 5 % of the cases" in text


def test_all_methods_impossible():
    stopped = dict.fromkeys(METHODS, "failed: no memory")
    result = made_result()
    empty = result.per_image.iloc[:0]
    details = {name: {**result.methods[name], "status": stopped[name]} for name in METHODS}
    text = make_page(replace(result, per_image=empty, methods=details, comparisons={}, curves={}))
    Page(text)
    assert "failed: no memory" in text


def test_a_metric_without_values_is_left_out():
    result = made_result()
    result.per_image["srg"] = math.nan
    result.per_image.loc[result.per_image["method"] == "rise", "road_morf"] = math.nan
    assert "srg" not in columns(result)
    assert "rise" not in columns(result)["road_morf"].cells
    Page(make_page(result))


def test_fewer_photos_are_told():
    column = Column(
        "ad", "AD", "%", False, {"a": Mean(1.0, 0.5, 1.5, 500), "b": Mean(2.0, 1.0, 3.0, 50)}
    )
    page = Page(score_table({"A": [column]}, {"a": {}, "b": {}, "c": {}}))
    assert page.row("method")[1] == "AD [%] ↓n = 500"
    assert page.row("a")[1] == f"1.00.5 {DASH} 1.5"
    assert page.row("b")[1].endswith(", n = 50")
    assert page.row("c")[1] == shown(math.nan, 1)


def test_the_file_is_the_same_every_time(tmp_path):
    one = write_report(made_result(), tmp_path / "one", sheet())
    two = write_report(made_result(), tmp_path / "two", sheet())
    assert one.name == "report.html"
    assert one.read_bytes() == two.read_bytes()
    assert [path.name for path in (tmp_path / "one").iterdir()] == ["report.html"]


def test_everything_to_repeat_it_is_there(text):
    for word in ("abc123", "sha256:77", "ttame benchmark --data photos", "0.1.0", "black"):
        assert word in text
    without = make_page(made_result(timings=False))
    assert "ms per image" not in without
    assert "peak memory" in text
    assert "peak memory" not in without
    table = re.search(r"<h3>Each measure of it, ms per image.*?</table>", text, re.DOTALL).group()
    assert ">41.8<" in table
    assert "Each measure" not in without
    assert "passes per image" in without


def test_sheets_explain_photos_of_the_result(tmp_path):
    folder = tiny_photos(tmp_path, 5)
    result = made_result(photos=5, impossible={"rise": "not possible: because"})
    result.per_image["file"] = str(folder) + "/" + result.per_image["file"]
    # By the photo's own name: the folder's may hold any digits.
    gone = ["03" in Path(name).name for name in result.per_image["file"]]
    result.per_image.loc[gone, "file"] = "gone.png"

    def left(backbone, images, classes):
        return torch.arange(4.0).expand(*classes.shape, 4, 4)

    methods = [Method("ttame", "T-TAME", left), Method("rise", "RISE", left), get_method("random")]
    usual, worst = make_sheets(result, tiny_backbone(), methods, count=9, worst=3)
    assert len(usual.rows) == 4  # one photo is gone
    assert [cell.title for cell in usual.rows[0].cells] == ["T-TAME", "Random"]
    assert 2 <= len(worst.rows) <= 3
    assert "ad_50_matched" in worst.rows[0].note
    again, _ = make_sheets(result, tiny_backbone(), methods, count=2, worst=1)
    assert len(again.rows) <= 2
    assert "T-TAME" in make_page(result, usual, worst)


def test_sheets_of_marked_photos_and_without_an_explainer(tmp_path):
    folder = tiny_photos(tmp_path, 5)
    result = made_result(photos=5, methods={"rise": "RISE", "gradcam": "Grad-CAM"})
    table = result.per_image
    values = table.loc[table["method"].eq("rise"), "ad_50_matched"].to_numpy()
    best = table["file"].eq(f"photo-{values.argmin():02d}.png") & table["method"].eq("gradcam")
    table.loc[best, "ad_50_matched"] = values.min() - 1
    result.per_image["file"] = str(folder) + "/" + result.per_image["file"]
    result.per_image["set"] = "marked"
    for file in folder.iterdir():  # so wide that cropping would leave the middle alone
        wide = Image.new("RGB", (300, 60), (0, 0, 255))
        wide.paste((255, 0, 0), (0, 0, 100, 60))
        wide.save(file)
    seen, told = [], []

    def spread(backbone, images, classes):
        seen.append(backbone.preprocessing.denormalise(images)[0, :, 0, 0].round().tolist())
        return torch.arange(4.0).expand(*classes.shape, 4, 4)

    methods = [Method(name, title, spread) for name, title in METHODS.items() if name != "ttame"]
    usual, worst = make_sheets(
        result, tiny_backbone(), methods, count=2, worst=1, progress=lambda *now: told.append(now)
    )
    assert len(usual.rows) == 2
    # RISE has the best mean: its worst photo, and the one on which it loses most to Grad-CAM.
    assert "among its worst: ad_50_matched" in worst.rows[0].note
    assert "loses most to gradcam" in worst.rows[1].note
    total = 2 * (2 + 2)
    assert told == [(done, total) for done in range(1, total + 1)]
    assert seen == [[1, 0, 0]] * total  # squashed as they were scored: red is there
    with pytest.raises(UnknownNameError, match="ad_51"):
        make_sheets(result, tiny_backbone(), methods, metric="ad_51")


def test_a_few_easy_photos_make_no_rival_of_the_worst_cases(tmp_path):
    folder = tiny_photos(tmp_path, 5)
    result = made_result(photos=5)
    table, column = result.per_image.copy(), "ad_50_matched"
    names = sorted(map(str, folder.iterdir()))
    table["file"] = [names[int(name[6:8])] for name in table["file"]]
    # RISE is best on the two photos it has, Grad-CAM wins on the last one of its five.
    table = table[~(table["method"].eq("rise") & table["file"].gt(names[1]))].copy()
    table.loc[table["method"].eq("rise"), column] = -100.0
    table.loc[table["method"].eq("gradcam") & table["file"].eq(names[4]), column] = -1.0
    methods = [get_method("random")]
    _, worst = make_sheets(replace(result, per_image=table), tiny_backbone(), methods, worst=2)
    notes = " ".join(row.note for row in worst.rows)
    assert "loses most to gradcam" in notes
    assert "rise" not in notes


def test_curves_over_fewer_photos_say_so():
    curves = made_result().curves
    curves["road_morf"]["n"] = {**curves["road_morf"]["n"], "rise": 3}
    curves["road_lerf"]["n"] = curves["road_morf"]["n"]
    assert "RISE (n=3)" not in make_page(made_result())
    assert "RISE (n=3)" in make_page(replace(made_result(), curves=curves))


def test_markup_escapes_whatever_is_no_markup():
    assert element("p", "<", element("b", "&"), id='"') == '<p id="&quot;">&lt;<b>&amp;</b></p>'
    assert nested({"a_b": [{"c": None}], "d": 0.5, "e": []}) == (
        f"<dl><dt>a b</dt><dd><ul><li><dl><dt>c</dt><dd>{DASH}</dd></dl></li></ul></dd>"
        f"<dt>d</dt><dd>0.5</dd><dt>e</dt><dd>{DASH}</dd></dl>"
    )
