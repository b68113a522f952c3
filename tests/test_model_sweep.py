"""The sweep over all families of classifiers: its parts, and three tiny models."""

from __future__ import annotations

import doctest
from functools import partial

import pytest
import timm
import torch
from torch import nn

import model_sweep
from bad_checks import follow
from sweeping import catalogue, checks, libraries, motion, page, records, sizes
from sweeping.catalogue import Entry, Part
from sweeping.workers import Worker, check_all

BUILD = partial(timm.create_model, "test_resnet")


@pytest.mark.parametrize("module", [sizes, catalogue, motion, page])
def test_the_examples_are_right(module):
    found = doctest.testmod(module)
    assert found.attempted > 0
    assert found.failed == 0


def test_parameters_are_counted_without_memory():
    expected = sum(parameter.numel() for parameter in BUILD().parameters())
    devices = []

    def build() -> nn.Module:
        model = BUILD()
        devices.append(next(model.parameters()).device.type)
        return model

    before = torch.random.get_rng_state()
    assert sizes.count_parameters(build) == expected
    assert sizes.count_parameters(build, expected) == expected
    assert sizes.count_parameters(build, expected - 1) is None
    assert devices == ["meta", "meta"]  # the third was given up while it was made
    assert torch.equal(torch.random.get_rng_state(), before)


def test_a_model_that_computes_while_it_is_made_is_counted_too():
    def build() -> nn.Module:
        return nn.Linear(2, int(torch.ones(3).sum().item()))

    assert sizes.count_parameters(build) == 9
    assert sizes.count_parameters(build, 8) is None


def test_the_smallest_of_those_that_can_be_made():
    counts = {"broken": None, "b": 5, "a": 3, "c": 3, "d": 9}
    limits = []

    def count(name: str, most: float) -> int | None:
        if counts[name] is None:
            raise RuntimeError
        limits.append(most)
        return counts[name] if counts[name] <= most else None

    assert sizes.smallest(counts, count) == ("a", 3)
    assert limits == [torch.inf, 4, 2, 2]
    assert sizes.smallest(["broken"], count) == ("broken", None)
    with pytest.raises(ValueError, match="at least one"):
        sizes.smallest([], count)


def test_every_family_of_the_libraries_is_found():
    found = libraries.LIBRARIES["timm"].families()
    assert set(found) == {
        module for module in timm.list_modules() if timm.list_models(module=module)
    }
    # A module whose networks are mostly published without a classifier.
    assert found["vision_transformer_sam"] == ["samvit_base_patch16_224"]
    found = libraries.LIBRARIES["torchvision"].families()
    assert {"resnet18", "wide_resnet50_2", "resnext50_32x4d"} <= set(found["resnet"])
    assert {"alexnet", "vision_transformer", "maxvit"} <= set(found)
    assert not any("rcnn" in name or "fcn" in name for names in found.values() for name in names)


def test_a_library_that_is_absent_is_left_out_with_the_reason(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "transformers", None)
    part = catalogue.catalogue("hf")
    assert part.version is None
    assert part.entries == ()
    assert "pip install" in part.absent


def test_a_catalogue_is_what_it_was_after_saving(tmp_path):
    parts = {
        "timm": Part("1.2", entries=(Entry("timm", "a", "b", 3), Entry("timm", "c", "d"))),
        "hf": Part(None, absent="not there"),
    }
    catalogue.save(parts, tmp_path / "file.json")
    assert catalogue.load(tmp_path / "file.json") == parts
    assert catalogue.load(tmp_path / "none.json") == {}


def test_small_models_come_first_and_unknown_ones_last():
    entries = [Entry("t", "f", name, size) for name, size in [("x", None), ("b", 7), ("a", 2)]]
    assert [entry.model for entry in catalogue.in_order(entries)] == ["a", "b", "x"]


def test_the_last_record_counts_and_a_torn_line_does_not(tmp_path):
    file = tmp_path / "records.jsonl"
    assert records.latest(file) == {}
    for outcome in ("failed", "ok"):
        records.append({"library": "timm", "model": "a", "outcome": outcome}, file)
    with file.open("a") as lines:
        lines.write('{"library": "timm", "mod')
    assert list(records.latest(file)) == ["timm/a"]
    assert records.latest(file)["timm/a"]["outcome"] == "ok"


SIZE, SHIFT = (32, 48), (8, 12)


def test_pictures_are_rolled_in_four_directions():
    pictures = motion.shifted_pictures(3, SIZE, SHIFT)
    assert pictures.shape == (5 * motion.PICTURES, 3, *SIZE)
    assert pictures.min() >= 0
    assert pictures.max() <= 1
    whole, down, up, right, left = pictures.chunk(5)
    assert torch.equal(down[:, :, 8:], whole[:, :, :-8])
    assert torch.equal(up[:, :, :-8], whole[:, :, 8:])
    assert torch.equal(right[..., 12:], whole[..., :-12])
    assert torch.equal(left[..., :-12], whole[..., 12:])


def test_what_moves_with_the_picture_is_told_from_what_does_not():
    pictures = motion.shifted_pictures(2, SIZE, SHIFT)
    pattern = torch.randn(2, *SIZE) * 100
    # Also with a pattern of its own, or one of which each picture decides how strong it is.
    board = torch.rand(len(pictures), 1, 1, 1) * torch.eye(2).repeat(16, 24) * 100
    coarse = nn.functional.avg_pool2d(pictures, 4)
    for moves in (pictures + pattern, pictures + board, -pictures, coarse):
        assert min(motion.peaks(moves, SIZE, SHIFT)) > 0.5
    # Cells out of order, mirrored cells, and what does not move at all.
    shuffled = pictures.flatten(2)[..., torch.randperm(32 * 48)].view_as(pictures)
    for other in (shuffled, pictures.flip(2, 3), pattern.expand_as(pictures)):
        assert motion.peaks(other, SIZE, SHIFT) == [0.0] * 4
    down, up, right, left = motion.peaks(pictures.flip(3), SIZE, SHIFT)  # columns mirrored
    assert min(down, up) > 0.8
    assert right == left == 0
    # Unrolled windows, as Hiera has them.
    windows = nn.functional.pixel_unshuffle(pictures[:, :1], 2).reshape(-1, 1, *SIZE)
    assert sum(peak > 0 for peak in motion.peaks(windows, SIZE, SHIFT)) < 2


def test_a_place_between_two_cells_is_near_both():
    pictures = motion.shifted_pictures(2, (30, 30), (9, 9))
    coarse = nn.functional.avg_pool2d(pictures, 5)  # 9 pixels are 1.8 cells
    assert min(motion.peaks(coarse, (30, 30), (9, 9))) > 0


def test_chance_hardly_ever_passes():
    found = [motion.peaks(torch.rand(10, 1, 4, 4), (32, 32), (8, 8)) for _ in range(1000)]
    assert sum(min(peaks) > 0 for peaks in found) <= 2


def test_weak_weights_are_drawn_and_nothing_else():
    layers = [nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Linear(4, 200), nn.Linear(200, 100)]
    model = nn.Sequential(*layers)
    nn.init.zeros_(model[1].weight)
    nn.init.zeros_(model[2].weight)
    nn.init.normal_(model[3].weight, std=0.02)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    checks.draw_weak(model, gain=0.3)
    changed = {n for n, value in model.state_dict().items() if not torch.equal(value, before[n])}
    assert changed == {"2.weight", "3.weight"}
    assert model[2].weight.std().item() == pytest.approx(4**-0.5, rel=0.1)
    assert model[3].weight.std().item() == pytest.approx(200**-0.5, rel=0.1)


def test_batch_normalisations_take_over_statistics():
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Dropout(0.5)).eval()
    images = torch.randn(2, 3, 8, 8)
    checks.settle_norms(model, images)
    output = model(images)
    torch.testing.assert_close(output.mean(dim=(0, 2, 3)), torch.zeros(4), atol=1e-5, rtol=0)
    torch.testing.assert_close(output.std(dim=(0, 2, 3)), torch.ones(4), atol=1e-2, rtol=0)
    assert model[1].momentum == 0.1
    assert not any(module.training for module in model.modules())
    checks.settle_norms(nn.Identity(), images)


@pytest.mark.parametrize(
    ("name", "gradient", "fault"),
    [
        ("head.weight", torch.ones(2), None),
        ("head.weight", torch.tensor([0.0, 1e-30]), None),
        ("head.bias", torch.zeros(2), None),
        ("head.weight", torch.zeros(2), "zero everywhere"),
        ("head.bias", torch.tensor([torch.nan]), "not finite"),
        ("head.bias", None, "no gradient"),
    ],
)
def test_faults_of_a_gradient(name, gradient, fault):
    found = checks.gradient_fault(name, gradient)
    assert found is None if fault is None else fault in found


def test_a_process_that_dies_or_hangs_is_a_result_and_replaced():
    entries = [Entry("timm", "f", model, 1) for model in ("works", "dies", "hangs", "works2")]
    found = []
    check_all(entries, found.append, [Worker(follow, seconds=3, gigabytes=64)])
    assert [record["model"] for record in found] == ["works", "dies", "hangs", "works2"]
    assert [record["outcome"] for record in found] == ["ok", "failed", "failed", "ok"]
    assert found[1]["reason"] == "the process ended with code 3"
    assert found[2]["reason"] == "not finished after 3 s"


def test_the_page_counts_and_tells_why():
    entries = (
        Entry("timm", "b", "one", 1_500_000),
        Entry("timm", "a", "two", 9),
        Entry("timm", "c", "x"),
    )
    found = {
        "timm/one": {
            "library": "timm", "family": "b", "model": "one", "parameters": 1_500_000,
            "outcome": "ok", "layers": [["layer1", [8, 4, 2]]], "input": [3, 64, 32],
            "head": "tied", "moved": 0.5, "seconds": {"load": 1.2, "train": 2.1},
        },
        "timm/two": {
            "library": "timm", "family": "a", "model": "two", "parameters": 9,
            "outcome": "failed", "stage": "load", "reason": "no | map",
        },
    }  # fmt: skip
    parts = {"timm": Part("1.2", entries=entries), "hf": Part(None, absent="it is not there")}
    lines = page.page(parts, found).splitlines()
    assert "| timm | 1.2 | 3 | **1 of 3** | 1 | 1 |" in lines
    assert "| transformers |  |  | not swept: it is not there |  |  |" in lines
    assert "| `timm/two` | load | no \\| map |" in lines
    assert "| b | `one` | works | `layer1` 8x4x2 | 64x32 | tied | 0.50 | 1.5 M | 3 |" in lines
    assert "| c | `x` | not run |  |  |  |  |  |  |" in lines


def test_three_tiny_models(tmp_path, capsys):
    out, written = tmp_path / "new" / "sweep.jsonl", tmp_path / "page.md"
    glob = "timm/test_[vr]*t"
    asked = ["--library", "timm", "--out", str(out), "--only"]
    model_sweep.main([*asked, "timm/test_convnext"])
    model_sweep.main([*asked, glob, "--sample", "1"])
    model_sweep.main([*asked, glob, "--resume"])
    model_sweep.main([*asked, glob, "--resume"])
    found = records.latest(out)
    assert list(found) == ["timm/test_convnext", "timm/test_vit", "timm/test_resnet"]
    assert len(out.read_text().splitlines()) == 3
    for record in found.values():
        assert record["outcome"] == "ok", record
        assert record["moved"] > 0.2
        assert set(record["seconds"]) == {"load", "explain", "train", "unchanged"}
        assert record["input"] == [3, 160, 160]
        assert record["step_input"] == [3, 128, 128]
    catalogue.save({"timm": catalogue.catalogue("timm", glob)}, model_sweep.kept(out))
    model_sweep.main(["--table", "--out", str(out), "--page", str(written)])
    assert "**3 of 3**" in written.read_text()
    assert "1/1 timm/test_resnet ok" in capsys.readouterr().out
