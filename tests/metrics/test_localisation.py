from __future__ import annotations

import numpy as np
import pytest
import torch

from tiny_cases import make_case
from ttame.errors import InputError
from ttame.metrics.case import Truth
from ttame.metrics.localisation import (
    box_region,
    energy,
    intersection_over_union,
    pointing,
    widened,
)
from ttame.metrics.measure import get_measure


def region_of(*boxes: tuple[float, ...], size: tuple[int, int] = (8, 8)) -> torch.Tensor:
    return box_region(torch.tensor(boxes).view(-1, 4), size)


def test_boxes_cover_the_pixels_whose_centre_they_hold():
    assert region_of((1, 2, 4, 3)).nonzero().tolist() == [[2, 1], [2, 2], [2, 3]]
    assert region_of((1.4, 0.6, 2.6, 1.4), size=(3, 5)).sum() == 0
    assert region_of((1.4, 0.4, 2.6, 1.4), size=(3, 5)).nonzero().tolist() == [[0, 1], [0, 2]]
    union = region_of((0, 0, 2, 2), (1, 1, 3, 3))
    assert union.sum() == 7
    assert region_of().sum() == 0
    assert region_of((-5, -5, 50, 50), size=(3, 7)).all()


def test_hand_computed_pointing_and_energy():
    regions = region_of((0, 0, 4, 8))[None].repeat(3, 1, 1)
    masks = torch.zeros(3, 8, 8)
    masks[0, 1, 1], masks[0, 1, 6] = 1.0, 0.6
    masks[1, 1, 6], masks[1, 2, 0] = 1.0, 0.25
    masks[2, 0, 0] = masks[2, 0, 1] = masks[2, 0, 5] = 1.0  # a shared peak
    assert pointing(masks, regions).tolist() == pytest.approx([100, 0, 200 / 3])
    assert energy(masks, regions).tolist() == pytest.approx([62.5, 20, 200 / 3])


@pytest.mark.parametrize("value", [0.0, 0.4, 1.0])
def test_a_constant_mask_neither_hits_nor_misses(value):
    regions = region_of((0, 0, 2, 8))[None]
    masks = torch.full((1, 8, 8), value)
    assert pointing(masks, regions).tolist() == [25]
    assert energy(masks, regions).tolist() == [25]
    # Chance is 16 * 16 / 64 = 4 of 16 pixels.
    found = [intersection_over_union(masks, regions, [seed]).item() for seed in range(200)]
    assert np.mean(found) == pytest.approx(100 * 4 / 28, abs=2)
    assert found[0] == intersection_over_union(masks, regions, [0]).item()


def test_iou_takes_exactly_as_many_pixels_as_the_region_has():
    regions = torch.stack([region_of((0, 0, 4, 1)), region_of((0, 0, 8, 4))])
    perfect = regions * (0.5 + 0.5 * torch.rand(2, 8, 8))
    assert intersection_over_union(perfect, regions, [0, 1]).tolist() == [100, 100]
    assert intersection_over_union(1 - regions.float(), regions, [0, 1]).tolist() == [0, 0]
    monotone = torch.rand(2, 8, 8)
    torch.testing.assert_close(
        intersection_over_union(monotone, regions, [0, 1]),
        intersection_over_union(monotone.sqrt(), regions, [0, 1]),
    )
    half = torch.zeros(2, 8, 8)
    half[:, :, :2] = 0.7
    found = intersection_over_union(half, regions, [0, 1], threshold=0.7)
    assert found.tolist() == pytest.approx([100 * 2 / 18, 100 * 8 / 40])


def test_equals_quantus():
    quantus = pytest.importorskip("quantus")
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 144, 2))
    generator = np.random.default_rng(0)
    maps = generator.random((6, 1, 12, 12))
    regions = np.zeros((6, 1, 12, 12))
    regions[:, :, 2:9, 1:10] = 1
    arguments = {
        "model": model,
        "x_batch": generator.random((6, 3, 12, 12)).astype("float32"),
        "y_batch": np.zeros(6, dtype=int),
        "a_batch": maps,
        "s_batch": regions,
        "device": "cpu",
    }
    settings = {"disable_warnings": True, "abs": False, "normalise": False}
    masks = torch.from_numpy(maps[:, 0])
    ours = torch.from_numpy(regions[:, 0]).bool()
    hits = quantus.PointingGame(**settings)(**arguments)
    assert pointing(masks, ours).tolist() == [100 * float(hit) for hit in hits]
    assert 0 < np.mean(hits) < 1
    mass = quantus.RelevanceMassAccuracy(**settings)(**arguments)
    assert energy(masks, ours).tolist() == pytest.approx([100 * value for value in mass])
    # Quantus gives the share of the top k pixels inside; with k = |region| this is 2 IoU / (1+IoU).
    share = np.array(quantus.RelevanceRankAccuracy(**settings)(**arguments))
    expected = 100 * share / (2 - share)
    found = intersection_over_union(masks.float(), ours, list(range(6)))
    assert found.tolist() == pytest.approx(expected.tolist())


def test_measures_leave_images_without_truth_out():
    region = torch.zeros(32, 32, dtype=torch.bool)
    region[:, :16] = True
    box = torch.tensor([[0.0, 0.0, 16.0, 32.0]])
    truth = (Truth(box, region), None, Truth(torch.zeros(0, 4)), Truth(box))
    case = make_case(images=4, truth=truth)
    boxes = get_measure("localisation")(case).values
    masks = get_measure("segmentation")(case).values
    assert set(boxes) == {"pointing", "energy_pointing"}
    for values in boxes.values():
        assert values.isnan().tolist() == [False, True, True, False]
    for values in masks.values():
        assert values.isnan().tolist() == [False, True, True, True]
    torch.testing.assert_close(masks["mass_in_mask"][0], boxes["energy_pointing"][0])
    unknown = make_case(images=4)
    for name in ("localisation", "segmentation"):
        assert all(v.isnan().all() for v in get_measure(name)(unknown).values.values())


def test_works_on_images_that_are_not_square():
    case = make_case(images=2, size=(24, 40), truth=(Truth(torch.tensor([[30.0, 0, 40, 24]])),) * 2)
    left = make_case(
        images=2, size=(24, 40), truth=case.truth, maps=torch.tensor([[[1.0, 0.0, 0.0, 0.0]]] * 2)
    )
    assert get_measure("localisation")(left).values["pointing"].tolist() == [0, 0]
    right = make_case(
        images=2, size=(24, 40), truth=case.truth, maps=torch.tensor([[[0.0, 0.0, 0.0, 1.0]]] * 2)
    )
    assert get_measure("localisation")(right).values["pointing"].tolist() == [100, 100]


def test_truth_that_does_not_fit_is_refused():
    box = Truth(torch.zeros(0, 4), torch.zeros(8, 8, dtype=torch.bool))
    with pytest.raises(InputError, match="each of 2 images, got 1"):
        get_measure("localisation")(make_case(images=2, truth=(box,)))
    with pytest.raises(InputError, match="input's size"):
        get_measure("segmentation")(make_case(images=1, truth=(box,)))


def test_a_tolerance_is_a_distance_from_the_boxes():
    region = torch.zeros(2, 9, 12, dtype=torch.bool)
    region[0, 2:4, 3:5] = True
    region[1, 8, 11] = True
    for pixels in (0, 1, 3):
        found = widened(region, pixels)
        for image in range(2):
            inside = region[image].nonzero()
            for row in range(9):
                for column in range(12):
                    distance = (inside - torch.tensor([row, column])).square().sum(dim=1).min()
                    assert found[image, row, column] == (distance <= pixels**2)


def test_the_pointing_game_with_a_tolerance():
    masks = torch.zeros(1, 32, 32)
    masks[0, 10, 22] = 1
    truth = [Truth(torch.tensor([[4.0, 4.0, 20.0, 20.0]]))]  # its last column is 19
    case = make_case(images=1, masks=masks, truth=truth)
    for tolerance, value in ((0, 0), (2, 0), (3, 100)):
        scores = get_measure("localisation", tolerance=tolerance)(case).values
        assert scores["pointing"].tolist() == [value]
        assert scores["energy_pointing"].tolist() == [0]
    with pytest.raises(InputError, match="at least 0 pixels, got -1"):
        get_measure("localisation", tolerance=-1)(case)
