from __future__ import annotations

import pytest
import torch
from sklearn.metrics import roc_auc_score

from tiny_cases import make_case
from ttame.errors import InputError
from ttame.metrics.case import Truth
from ttame.metrics.measure import get_measure
from ttame.metrics.pairs import ordered_right


def left_half(size: int = 8) -> torch.Tensor:
    region = torch.zeros(1, size, size, dtype=torch.bool)
    region[..., : size // 2] = True
    return region


def test_the_order_is_the_area_under_the_roc_curve():
    masks = (torch.rand(5, 8, 8) * 20).round() / 20  # with ties
    regions = torch.rand(5, 8, 8) < 0.4
    expected = [
        100 * roc_auc_score(region.flatten(), mask.flatten())
        for mask, region in zip(masks.numpy(), regions.numpy(), strict=True)
    ]
    assert ordered_right(masks, regions).tolist() == pytest.approx(expected)


def test_hand_computed_orders():
    region = left_half()
    assert ordered_right(region.float(), region).item() == pytest.approx(100)
    assert ordered_right(1 - region.float(), region).item() == pytest.approx(0, abs=1e-6)
    assert ordered_right(torch.full((1, 8, 8), 0.3), region).item() == pytest.approx(50)
    assert ordered_right(region.float(), torch.ones_like(region)).isnan().all()


def test_a_monotone_change_does_not_move_the_order():
    # Steps large enough that no two values are nearly equal before or after the change.
    masks = torch.randperm(64).view(1, 8, 8) / 64
    found = ordered_right(masks, left_half())
    for changed in (0.5 + 0.5 * masks, (0.3 + 0.7 * masks) ** 3, (0.01 + masks).log() / 5 + 1):
        torch.testing.assert_close(ordered_right(changed, left_half()), found)


def test_both_halves_of_a_mask_that_knows_no_class_give_chance():
    masks = torch.rand(1, 8, 8).repeat(2, 1, 1)
    regions = torch.cat([left_half(), ~left_half()])
    assert ordered_right(masks, regions).mean().item() == pytest.approx(50)


def test_the_measure_reads_the_half_of_the_explained_photo():
    halves = [(0, 0, 16, 32), (16, 0, 32, 32), (0, 0, 32, 16), (0, 16, 32, 32)]
    truth = tuple(Truth(torch.tensor([box], dtype=torch.float32)) for box in halves)
    maps = torch.zeros(4, 32, 32)
    maps[:, :, :16] = 1.0
    found = get_measure("pairs")(make_case(maps=maps, truth=truth)).values
    assert found["pair_order"].tolist() == pytest.approx([100, 0, 50, 50], abs=1e-6)
    assert found["pair_energy"].tolist() == [100, 0, 50, 50]


def test_a_truth_for_other_images_is_refused():
    with pytest.raises(InputError, match="a truth for each of 4 images"):
        get_measure("pairs")(make_case(truth=(None,)))
