from __future__ import annotations

import pytest
import torch

from ttame.detail import with_detail
from ttame.errors import InputError, UnknownNameError
from ttame.metrics.shares import area_matched, cut_to_shares
from ttame.normalisation import NORMALISATIONS, full_masks, without_nan

SIGNED = torch.tensor([[[-4.0, 0.0], [1.0, 2.0]]])


@pytest.mark.parametrize(
    ("normalisation", "expected"),
    [
        ("minmax", [0, 4 / 6, 5 / 6, 1]),
        ("positive", [0, 0, 0.5, 1]),
        ("magnitude", [1, 0, 0.25, 0.5]),
        ("as_given", [0, 0, 1, 1]),
        ("ranks", [0, 1 / 3, 2 / 3, 1]),
    ],
)
def test_hand_computed_masks(normalisation, expected):
    masks = full_masks(SIGNED, (2, 2), normalisation)
    assert masks.flatten().tolist() == pytest.approx(expected)


def test_clipped_masks_do_not_follow_a_few_extreme_pixels():
    maps = torch.linspace(0, 1, 40 * 40).view(1, 40, 40)
    extreme = maps.clone()
    extreme[0, -1, -3:] = 1000
    extreme[0, 0, :3] = -1000
    low, high = torch.quantile(maps.flatten(), torch.tensor([0.01, 0.99]))
    expected = ((maps - low) / (high - low)).clamp(0, 1)
    masks = full_masks(extreme, (40, 40), "clipped")
    torch.testing.assert_close(masks, expected, rtol=0, atol=1e-5)
    assert full_masks(extreme, (40, 40))[0, 1:-1].std() < 0.01


def test_a_few_cells_on_an_even_ground_are_not_clipped_away():
    maps = torch.zeros(2, 20, 20)
    maps[0, 3, 4] = 2.0
    masks = full_masks(maps, (20, 20), "clipped")
    assert masks.flatten(1).sum(dim=1).tolist() == [1, 0]
    noise = torch.rand(2, 20, 20, generator=torch.Generator().manual_seed(0))
    noisy = torch.stack([1e-9 * noise[0], 1 + 1e-7 * noise[1]])
    noisy[0, 3, 4], noisy[1, 3, 4] = 1.0, 1000.0
    masks = full_masks(noisy, (20, 20), "clipped")
    assert masks[:, 3, 4].tolist() == [1, 1]
    assert masks.mean(dim=(1, 2)).max() < 0.01


@pytest.mark.parametrize("normalisation", NORMALISATIONS)
def test_masks_are_finite_in_range_and_independent_of_the_batch(normalisation):
    maps = torch.randn(4, 5, 7) * torch.tensor([1e-3, 1.0, 1e4, 0.0])[:, None, None]
    together = full_masks(maps, (20, 28), normalisation)
    assert together.shape == (4, 20, 28)
    assert together.isfinite().all()
    assert 0 <= together.min() <= together.max() <= 1
    apart = [full_masks(item[None], (20, 28), normalisation)[0] for item in maps]
    assert torch.equal(together, torch.stack(apart))
    assert not together[3].any()


@pytest.mark.parametrize("upsampling", ["bilinear", "nearest"])
@pytest.mark.parametrize("change", [torch.exp, torch.sigmoid, lambda m: m**3, lambda m: 2 * m - 7])
def test_no_monotone_change_of_a_coarse_map_moves_the_masks_of_its_ranks(change, upsampling):
    maps = torch.randn(3, 7, 7, generator=torch.Generator().manual_seed(0))
    maps[1, :4] = maps[1, 0, 0]  # ties stay ties
    settings = {"normalisation": "ranks", "upsampling": upsampling}
    masks = full_masks(maps, (56, 56), **settings)
    assert torch.equal(full_masks(change(maps), (56, 56), **settings), masks)


def test_by_minmax_the_order_of_a_resized_maps_pixels_follows_its_values():
    maps = torch.randn(3, 7, 7, generator=torch.Generator().manual_seed(0))
    plain, moved = (area_matched(full_masks(m, (56, 56)), [0, 1, 2]) for m in (maps, maps.exp()))
    assert (plain - moved).abs().max() > 0.01


def test_minmax_and_positive_agree_on_maps_from_zero():
    maps = torch.rand(3, 6, 6)
    maps[:, 0, 0] = 0
    torch.testing.assert_close(full_masks(maps, (12, 12)), full_masks(maps, (12, 12), "positive"))


def test_constant_maps():
    constant = torch.full((1, 2, 2), 7.0)
    zeros = dict.fromkeys(("minmax", "clipped", "ranks"), 0)
    for normalisation, value in {**zeros, "positive": 1, "magnitude": 1}.items():
        expected = torch.full((1, 4, 6), float(value))
        assert torch.equal(full_masks(constant, (4, 6), normalisation), expected)
    assert not full_masks(-constant, (4, 6), "positive").any()


def test_an_unknown_normalisation_is_refused():
    with pytest.raises(UnknownNameError, match="did you mean 'minmax'"):
        full_masks(SIGNED, (2, 2), "min_max")


def test_plateaus_of_a_resized_map_stay_exact_ties():
    # Half of the values of a 1 x 3 map resized to 30 columns lie on its flat ends.
    maps = torch.tensor([[[0.123457, 0.7, 0.312345], [0.123457, 0.7, 0.312345]]])
    full = full_masks(maps, (17, 30))
    assert full[0, :, :5].unique().numel() == 1
    assert full[0, :, -5:].unique().numel() == 1
    noisy = full_masks(maps * (1 + 1e-7), (17, 30))
    torch.testing.assert_close(area_matched(noisy, [0]), area_matched(full, [0]), rtol=0, atol=0)
    kept, again = cut_to_shares(full, [0.5, 0.15]), cut_to_shares(noisy, [0.5, 0.15])
    assert torch.equal(kept > 0, again > 0)


def test_full_masks_normalise_resize_and_leave_masks_alone():
    maps = torch.tensor([[[2.0, 4.0], [4.0, 2.0]]])
    full = full_masks(maps, (4, 2))
    assert full.shape == (1, 4, 2)
    assert full[0, :, 0].tolist() == pytest.approx([0, 0.25, 0.75, 1])
    ones = torch.ones(1, 3, 5)
    assert torch.equal(full_masks(ones, (3, 5), "as_given"), ones)


def test_full_masks_mix_in_detail_and_want_the_photos_for_it():
    maps, pixels = torch.rand(2, 3, 3), torch.rand(2, 3, 9, 12)
    found = full_masks(maps, (9, 12), detail=0.2, pixels=pixels)
    plain = full_masks(maps, (9, 12), pixels=pixels)
    assert torch.equal(plain, full_masks(maps, (9, 12)))
    assert torch.equal(found, with_detail(plain[:, None], pixels, 0.2)[:, 0])
    assert not torch.allclose(found, plain)
    with pytest.raises(InputError, match="needs the photos"):
        full_masks(maps, (9, 12), detail=0.2)


def test_nan_and_infinite_maps_become_zeros_and_are_flagged():
    maps = torch.rand(3, 2, 2, 2)
    maps[0, 1, 0, 0] = torch.nan
    maps[2, 0, 1, 1] = torch.inf
    clean, replaced = without_nan(maps)
    assert replaced.tolist() == [[False, True], [False, False], [True, False]]
    assert not clean[replaced].any()
    assert torch.equal(clean[~replaced], maps[~replaced])
