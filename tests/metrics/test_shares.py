from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ttame.errors import InputError, UnknownNameError
from ttame.metrics import shares
from ttame.metrics.shares import (
    area_matched,
    cut_to_shares,
    image_seeds,
    pixel_ranks,
)

SHARES = (1.0, 0.5, 0.15)


def test_quantile_rule_is_torch_quantile():
    masks = torch.rand(3, 7, 11)
    cut = cut_to_shares(masks, SHARES)
    for image, mask in enumerate(masks):
        for place, share in enumerate(SHARES):
            threshold = torch.quantile(mask, 1 - share)
            expected = torch.where(mask >= threshold, mask, torch.zeros_like(mask))
            torch.testing.assert_close(cut[image, place], expected, rtol=0, atol=0)


def test_the_order_of_ties_is_drawn_once_a_batch():
    shares._shuffles.cache_clear()
    seeds = image_seeds(0, range(100))
    first = pixel_ranks(torch.zeros(100, 6, 6), seeds)
    for _ in range(2):
        assert torch.equal(pixel_ranks(torch.zeros(100, 6, 6), seeds), first)
        pixel_ranks(torch.zeros(100, 2, 2), seeds)
    assert shares._shuffles.cache_info().hits == 3
    alone = pixel_ranks(torch.zeros(1, 6, 6), seeds[7:8])
    assert torch.equal(alone, first[7:8])


# Few levels, so that most maps are full of ties.
TIED = st.tuples(st.integers(1, 9), st.integers(1, 9), st.integers(1, 4), st.integers(0, 999))


def tied_masks(drawn: tuple[int, int, int, int]) -> torch.Tensor:
    height, width, levels, seed = drawn
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(levels, (2, height, width), generator=generator) / max(1, levels - 1)


@settings(deadline=None)
@given(TIED, st.floats(0.01, 1))
def test_any_map_keeps_exactly_k_of_its_highest_pixels(drawn, share):
    masks = tied_masks(drawn) + 0.5  # what stays is above 0
    cut = cut_to_shares(masks, [share], "exact", [1, 2])[:, 0]
    for mask, kept in zip(masks, cut, strict=True):
        assert int((kept > 0).sum()) == round(share * mask.numel())
        gone = mask[kept == 0]
        assert not gone.numel() or not (kept > 0).any() or gone.max() <= kept[kept > 0].min()


@settings(deadline=None)
@given(TIED, st.floats(0.01, 1))
def test_the_quantile_rule_never_splits_a_plateau(drawn, share):
    masks = tied_masks(drawn)
    for mask, kept in zip(masks, cut_to_shares(masks, [share])[:, 0], strict=True):
        threshold = torch.quantile(mask.flatten(), 1 - share)
        assert torch.equal(kept, torch.where(mask >= threshold - 1e-6, mask, 0))


@settings(deadline=None)
@given(TIED, st.sampled_from([torch.sqrt, torch.exp, torch.square, lambda values: 7 * values - 3]))
def test_no_monotone_change_moves_an_area_matched_mask(drawn, change):
    masks = tied_masks(drawn)
    matched = area_matched(masks, [5, 6])
    assert torch.equal(area_matched(change(masks), [5, 6]), matched)
    assert matched[0].unique().numel() == masks[0].numel()


def test_hand_computed_cut_keeps_soft_values():
    mask = torch.tensor([[[0.0, 0.1, 0.2, 0.3, 0.4], [0.5, 0.6, 0.7, 0.8, 1.0]]])
    half, few = cut_to_shares(mask, [0.5, 0.15])[0]
    assert half.flatten().tolist() == pytest.approx([0, 0, 0, 0, 0, 0.5, 0.6, 0.7, 0.8, 1.0])
    # The 0.85 quantile of 10 values lies at position 7.65: 0.7 + 0.65 * 0.1.
    assert few.flatten().tolist() == pytest.approx([0] * 8 + [0.8, 1.0])


@pytest.mark.parametrize("share", SHARES)
def test_exact_rule_keeps_exactly_k_pixels_of_a_plateau(share):
    masks = torch.ones(2, 10, 10)
    masks[0, :5] = 0.5
    cut = cut_to_shares(masks, [share], "exact", [3, 4])[:, 0]
    assert (cut > 0).sum(dim=(1, 2)).tolist() == [round(share * 100)] * 2
    if share == 0.15:
        assert (cut[0, :5] == 0).all()
        assert not torch.equal(cut[0] > 0, cut[1] > 0)


def test_constant_mask_does_not_crash_and_loses_nothing_under_the_quantile_rule():
    masks = torch.full((1, 4, 4), 0.3)
    assert torch.equal(cut_to_shares(masks, SHARES), masks[:, None].expand(-1, 3, -1, -1))


def test_ranks_are_uniform_and_ties_are_seeded_per_image():
    masks = torch.tensor([[[0.5, 0.5, 0.1], [0.5, 0.9, 0.1]]]).repeat(3, 1, 1)
    ranks = pixel_ranks(masks, [1, 2, 1])
    assert ranks.flatten(1).sort(dim=1).values.tolist() == [[0, 1, 2, 3, 4, 5]] * 3
    assert (ranks[:, 1, 1] == 5).all()
    assert (ranks[:, :, 2] < 2).all()
    assert torch.equal(ranks[0], ranks[2])
    assert torch.equal(ranks[1], pixel_ranks(masks[1:2], [2])[0])
    many = torch.zeros(2, 16, 16)
    assert not torch.equal(*pixel_ranks(many, [1, 2]))
    assert area_matched(many, [1, 2]).mean().item() == pytest.approx(0.5)


def test_monotone_change_leaves_area_matched_masks_unchanged():
    masks = torch.randint(0, 100, (2, 9, 13)).float() / 100
    matched = area_matched(masks, [5, 6])
    assert torch.equal(matched, area_matched(masks.sqrt(), [5, 6]))
    assert torch.equal(matched, area_matched(torch.exp(3 * masks), [5, 6]))
    assert not torch.equal(matched, area_matched(-masks, [5, 6]))


def test_image_seeds_do_not_depend_on_the_batch():
    assert image_seeds(3, [0, 1, 2]) == image_seeds(3, [0]) + image_seeds(3, [1, 2])
    assert len(set(image_seeds(0, range(100)) + image_seeds(1, range(100)))) == 200


@pytest.mark.parametrize("shares", [(0.0,), (1.5,), (), (0.5, 0.5)])
def test_wrong_shares_are_refused(shares):
    with pytest.raises(InputError, match=r"\(0, 1\]"):
        cut_to_shares(torch.rand(1, 2, 2), shares)


def test_wrong_rules_and_seeds_are_refused():
    with pytest.raises(UnknownNameError, match="exact"):
        cut_to_shares(torch.rand(1, 2, 2), [0.5], "exakt")
    with pytest.raises(InputError, match="got 1 for 2 masks"):
        area_matched(torch.rand(2, 2, 2), [0])
