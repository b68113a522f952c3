from __future__ import annotations

import logging
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import ttame
from ttame.backbone.module import ModuleBackbone
from ttame.benchmarking.choosing import photo_set
from ttame.benchmarking.halves import half_of
from ttame.benchmarking.pairs import pair_set
from ttame.errors import ImageError, InputError
from ttame.images.dataset import PhotoDataset
from ttame.images.pairs import beside
from ttame.images.preprocessing import Preprocessing
from ttame.methods.registry import Method
from ttame.metrics.measure import get_measure

COLOURS = {"red": (200, 40, 40), "green": (40, 200, 40), "blue": (40, 40, 200)}


def colour_backbone(multi_label: bool = False) -> ModuleBackbone:
    """A classifier that is sure of a photo's strongest colour, and unsure of grey."""
    colours, last = nn.Conv2d(3, 3, 1), nn.Linear(3, 3)
    with torch.no_grad():
        colours.weight.copy_(torch.eye(3)[:, :, None, None])
        colours.bias.zero_()
        last.weight.copy_(40 * torch.eye(3))
        last.bias.fill_(-16)
    model = nn.Sequential(colours, nn.AdaptiveAvgPool2d(1), nn.Flatten(), last)
    plain = Preprocessing(crop=(16, 16), resize=20, mean=(0.0,) * 3, std=(1.0,) * 3)
    return ModuleBackbone(
        model.eval(),
        plain,
        layers=["0"],
        class_names=list(COLOURS),
        name="colours",
        multi_label=multi_label,
    )


def photo(folder, name, colour):
    generator = np.random.default_rng(sum(name.encode()))
    noise = generator.integers(-30, 30, (24, 32, 3))
    Image.fromarray((np.array(colour) + noise).astype(np.uint8)).save(folder / f"{name}.png")


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    for index in range(5):
        for name, colour in COLOURS.items():
            photo(folder, f"{name}-{index}", colour)
    for index in range(4):
        photo(folder, f"grey-{index}", (120, 120, 120))
    (folder / "broken.png").write_text("no picture")
    return folder


def made(photos, half="all", most=100, backbone=None):
    backbone = backbone or colour_backbone()
    taken = (get_measure("confidence"), get_measure("pairs"))
    chosen = photo_set(photos, backbone, taken, half, 0, None)
    return backbone, chosen, pair_set(chosen, backbone, taken, 0, batch_size=4, most=most)


def test_a_picture_is_explained_for_the_class_of_one_photo_by_turns(photos):
    _, chosen, pairs = made(photos)
    assert [item.name for item in chosen.measures] == ["confidence"]
    assert [item.name for item in pairs.measures] == ["pairs"]
    by_name = {item.path.name: item for item in chosen.photos}
    dataset = PhotoDataset(pairs.photos, pairs.preprocessing)
    turns = set()
    for number, item in enumerate(pairs.photos):
        pair = pairs.sources[2 * number : 2 * number + 2]
        dim, place = -1 - number % 2, number // 2 % 2
        turns.add((dim, place))
        assert item.path.name == pair[place].path.name
        assert item.path.parent.name == f"pair {number} with {pair[1 - place].path.name}"
        views = [PhotoDataset([each], chosen.preprocessing)[0].pixels for each in pair]
        pixels = dataset[number].pixels
        torch.testing.assert_close(pixels, beside(*views, dim), rtol=0, atol=0)
        # The class is the photo's own, the box its half of the picture.
        assert list(COLOURS)[item.label] == item.path.name.partition("-")[0]
        x0, y0, x1, y1 = map(int, pairs.truth[number].boxes[0].tolist())
        own = pixels[:, y0:y1, x0:x1]
        assert own.shape[1] * own.shape[2] == 16 * 16 / 2
        assert own.mean(dim=(1, 2)).argmax() == item.label
        assert all(each.path.name in by_name for each in pair)
    assert len(turns) == 4


def test_only_surely_predicted_photos_of_two_classes_and_one_half_are_paired(photos):
    _, chosen, pairs = made(photos)
    names = [item.path.name for item in pairs.sources]
    assert len(set(names)) == len(names) == 2 * len(pairs.photos)  # each photo once
    assert not any(name.startswith(("grey", "broken")) for name in names)
    for first, second in zip(names[::2], names[1::2], strict=True):
        assert first.partition("-")[0] != second.partition("-")[0]
        assert half_of(first) == half_of(second)
    # What is left alone finds no partner: in each half one class at most.
    left = {item.path.name for item in chosen.photos} - set(names)
    for half in ("choosing", "reporting"):
        sure = {n.partition("-")[0] for n in left if half_of(n) == half} & set(COLOURS)
        assert len(sure) <= 1
    _, _, again = made(photos)
    assert [item.path for item in again.photos] == [item.path for item in pairs.photos]


def test_a_short_set_is_the_start_of_a_long_one(photos):
    _, _, pairs = made(photos)
    _, _, few = made(photos, most=2)
    assert [item.path for item in few.photos] == [item.path for item in pairs.photos[:2]]
    assert few.seeds == pairs.seeds[:2]


def test_photos_that_hold_both_labels_are_no_pair(tmp_path):
    both, single = (220, 200, 40), COLOURS["green"]  # red and green; green
    for stem, colour in (("both", both), ("single", single)):
        names = (f"{stem}-{number}" for number in range(100))
        photo(tmp_path, next(n for n in names if half_of(f"{n}.png") == "choosing"), colour)
    backbone = colour_backbone(multi_label=True)
    _, chosen, pairs = made(tmp_path, backbone=backbone)
    images = torch.stack(
        [item.pixels for item in PhotoDataset(chosen.photos, chosen.preprocessing)]
    )
    p = backbone.logits(images).sigmoid()
    assert sorted((p >= 0.5).sum(dim=1).tolist()) == [1, 2]
    assert p.argmax(dim=1).unique().numel() == 2
    assert pairs is None
    for path in tmp_path.glob("both-*"):
        photo(tmp_path, path.stem, COLOURS["red"])
    assert len(made(tmp_path, backbone=backbone)[2].photos) == 1


def test_without_a_pair_the_other_measures_go_on(photos, tmp_path, caplog):
    for index in range(3):
        photo(tmp_path, f"red-{index}", COLOURS["red"])
    settings = {"backbone": colour_backbone(), "data": tmp_path, "methods": ["random"]}
    with caplog.at_level(logging.WARNING, logger="ttame"):
        result = ttame.benchmark(**settings, measures=["mask_area", "pairs"])
    assert "the measure pairs is left out: no two photos" in caplog.text
    assert "mask_area" in result.means()["random"]
    with pytest.raises(InputError, match="the measure pairs cannot be taken: no two photos"):
        ttame.benchmark(**settings, measures=["pairs"])


def test_the_log_of_a_run_says_that_there_are_no_pairs(tmp_path):
    photo(tmp_path, "red", COLOURS["red"])
    out = tmp_path / "out"
    settings = {"backbone": colour_backbone(), "data": tmp_path, "methods": ["random"]}
    ttame.benchmark(**settings, measures=["mask_area", "pairs"], out=out, report=False)
    assert "the measure pairs is left out" in (out / "benchmark.log").read_text()


def test_photos_of_which_none_can_be_read_are_no_question_of_classes(tmp_path):
    (tmp_path / "broken.png").write_text("no picture")
    with pytest.raises(ImageError, match="none of the 1 photos can be read"):
        ttame.benchmark(
            backbone=colour_backbone(), data=tmp_path, methods=["random"], measures=["pairs"]
        )


def test_photos_that_cannot_be_read_are_listed(photos):
    result = ttame.benchmark(
        backbone=colour_backbone(), data=photos, methods=["random"], measures=["pairs"]
    )
    assert [file for file, _ in result.broken] == [str(photos / "broken.png")]


def test_exchanged_photos_are_noticed_on_resumption(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for name, colour in COLOURS.items():
        for index in range(3):
            photo(folder, f"{name}-{index}", colour)
    settings = {
        "backbone": colour_backbone(),
        "data": folder,
        "methods": ["random"],
        "measures": ["pairs"],
        "out": tmp_path / "out",
        "report": False,
    }
    ttame.benchmark(**settings)
    for path in folder.iterdir():
        Image.open(path).resize((90, 80)).save(path)
    with pytest.raises(InputError, match="a run with other settings"):
        ttame.benchmark(**settings, resume=True)


def test_two_measures_of_one_metric_are_refused_before_any_work(photos):
    twin = replace(get_measure("pairs"), name="twin")
    worked = []
    method = Method("spy", "Spy", lambda _b, images, _c: worked.append(1) or images[:, :1])
    with pytest.raises(InputError, match="two measures give the metric"):
        ttame.benchmark(
            backbone=colour_backbone(),
            data=photos,
            methods=[method],
            measures=[get_measure("pairs"), twin],
        )
    assert not worked


def test_what_a_classifier_keeps_for_itself_can_take_part_in_gradients(photos):
    backbone = colour_backbone()
    tables = {}

    class Table(nn.Module):
        def forward(self, features):
            scale = tables.setdefault(len(features), features.new_ones(len(features), 1))
            return features * scale

    backbone.classifier.insert(3, Table())
    result = ttame.benchmark(
        backbone=backbone, data=photos, methods=["saliency"], measures=["mask_area", "pairs"]
    )
    assert result.methods["saliency"]["status"] == "ok"


def test_a_map_of_the_class_wins_and_a_saliency_map_gets_chance(photos, tmp_path):
    def own_colour(_, images, classes):
        return images.gather(1, classes[:, :, None, None].expand(-1, -1, *images.shape[2:]))

    methods = [
        Method("own", "Own colour", own_colour),
        Method("first", "First channel", lambda _b, images, _c: images[:, :1]),
    ]
    settings = {
        "backbone": colour_backbone(),
        "data": photos,
        "methods": methods,
        "measures": ["confidence", "pairs"],
        "out": tmp_path / "out",
    }
    result = ttame.benchmark(**settings, report=True)
    rows = result.per_image.query("set == 'pairs'")
    assert rows["pair_order"].notna().all()
    assert rows["ad_50"].isna().all()
    means = result.means()
    assert means["own"]["pair_order"].mean > 99
    assert means["own"]["pair_energy"].mean > 60
    # By turns: red finds itself and loses to the others, which find nothing.
    assert 20 < means["first"]["pair_order"].mean < 80
    assert result.comparisons["metrics"]["pair_order"]["best"] == "own"
    assert (tmp_path / "out" / "report.html").is_file()
    again = ttame.benchmark(**settings, resume=True)
    assert again.per_image.equals(result.per_image)


def test_pairs_can_be_sent_to_other_processes(photos):
    settings = {"backbone": colour_backbone(), "data": photos, "methods": ["random", "edge_map"]}
    alone = ttame.benchmark(**settings, measures=["pairs"], batch_size=3)
    shared = ttame.benchmark(**settings, measures=["pairs"], batch_size=3, jobs=2)
    assert shared.per_image.equals(alone.per_image)
