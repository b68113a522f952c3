from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from ttame import masking
from ttame.errors import UnknownNameError
from ttame.images.preprocessing import Preprocessing

PREPROCESSING = Preprocessing(crop=(8, 8), mean=(0.5, 0.4, 0.3), std=(0.2, 0.25, 0.3))


def test_minmax_by_hand() -> None:
    maps = torch.tensor([[[-1.0, 3.0], [1.0, 0.0]], [[10.0, 20.0], [15.0, 10.0]]])
    expected = torch.tensor([[[0.0, 1.0], [0.5, 0.25]], [[0.0, 1.0], [0.5, 0.0]]])
    torch.testing.assert_close(masking.minmax(maps), expected)


@pytest.mark.parametrize("value", [0.0, 0.1, -7.3, 1000.1, -1e6, 1e-9])
def test_a_constant_map_becomes_zeros_or_one_half(value: float) -> None:
    maps = torch.full((2, 1, 7, 7), value)
    assert torch.equal(masking.minmax(maps), torch.zeros_like(maps))
    ranks = masking.normal_ranks(maps)
    torch.testing.assert_close(ranks, torch.full_like(maps, 0.5))


@pytest.mark.parametrize("scale", [1e-16, 1e-13, 1e20])
def test_minmax_does_not_depend_on_the_scale(scale: float) -> None:
    maps = torch.tensor([[0.0, 1.0], [0.25, 0.5]])
    torch.testing.assert_close(masking.minmax(scale * maps), maps)
    torch.testing.assert_close(masking.minmax(-scale * maps), 1 - maps)


def test_rounding_noise_is_a_constant_map() -> None:
    maps = 1000 + torch.rand(1, 7, 7) * 1e-4
    assert torch.equal(masking.minmax(maps), torch.zeros_like(maps))


@pytest.mark.parametrize("form", masking.MASK_FORMS)
def test_nan_stays_in_its_own_map(form: str) -> None:
    maps = torch.randn(2, 1, 4, 4)
    maps[0, 0, 1, 2] = torch.nan
    masks = masking.to_masks(maps, form)
    assert torch.isnan(masks[0, 0, 1, 2])
    assert torch.equal(masks[1], masking.to_masks(maps[1:], form)[0])


@pytest.mark.parametrize("form", masking.MASK_FORMS)
def test_masks_are_float32_in_range_and_in_the_order_of_the_map(form: str) -> None:
    maps = 3 * torch.randn(3, 2, 9, 9) - 1
    masks = masking.to_masks(maps, form)
    assert masks.min() >= 0
    assert masks.max() <= 1
    assert torch.equal(masks.flatten(2).argsort(), maps.flatten(2).argsort())
    for dtype in (torch.float16, torch.bfloat16):
        half = masking.to_masks(maps.to(dtype), form)
        assert half.dtype == torch.float32
        torch.testing.assert_close(half, masks, atol=0.03, rtol=0)


def test_sigmoid_by_hand() -> None:
    maps = torch.tensor([[0.0, torch.log(torch.tensor(3.0))]])
    torch.testing.assert_close(masking.to_masks(maps, "sigmoid"), torch.tensor([[0.5, 0.75]]))


def test_smoothing_equals_scipy():
    ndimage = pytest.importorskip("scipy.ndimage")
    maps = torch.randn(2, 3, 7, 9)
    blurred = masking.smooth(maps, 0.8)
    for batch in range(2):
        for index in range(3):
            # Cut at the same radius: ceil(3 * 0.8) = 3 cells.
            expected = ndimage.gaussian_filter(
                maps[batch, index].double().numpy(), 0.8, mode="nearest", radius=3
            )
            np.testing.assert_allclose(blurred[batch, index].numpy(), expected, atol=1e-5)
    assert torch.equal(masking.smooth(maps, 0.0), maps)
    constant = torch.full((1, 1, 2, 2), 3.0)
    torch.testing.assert_close(masking.smooth(constant, 2.0), constant)


@pytest.mark.parametrize("form", masking.MASK_FORMS)
def test_smoothing_comes_before_the_form(form: str) -> None:
    maps = torch.randn(1, 2, 8, 8)
    expected = masking.shown_masks(masking.smooth(maps, 1.0), form)
    torch.testing.assert_close(masking.shown_masks(maps, form, 1.0), expected)


@pytest.mark.parametrize("form", masking.MASK_FORMS)
def test_shown_masks_reach_from_0_to_1(form: str) -> None:
    maps = 100 + 3 * torch.randn(3, 2, 9, 9)  # a sigmoid is saturated there
    masks = masking.shown_masks(maps, form)
    assert torch.equal(masks.amin((2, 3)), torch.zeros(3, 2))
    torch.testing.assert_close(masks.amax((2, 3)), torch.ones(3, 2))
    assert torch.equal(masks.flatten(2).argsort(), maps.flatten(2).argsort())
    if form != "ranks":
        assert torch.equal(masks, masking.minmax(maps))


def test_normal_ranks_by_hand() -> None:
    # Mean 0, standard deviation 1: Phi(-1) and Phi(1).
    masks = masking.normal_ranks(torch.tensor([[-1.0, 1.0], [1.0, -1.0]]))
    expected = torch.tensor([[0.158655, 0.841345], [0.841345, 0.158655]])
    torch.testing.assert_close(masks, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("power", [1, 2, 3])
def test_normal_ranks_keep_about_one_half_whatever_the_scale(power: int) -> None:
    maps = torch.rand(20, 1, 14, 14) ** power
    masks = masking.normal_ranks(maps)
    assert (masks.mean(dim=(2, 3)) - 0.5).abs().max() < 0.08
    moved = masking.normal_ranks(100 * maps - 40)
    torch.testing.assert_close(moved, masks, atol=1e-4, rtol=0)


@pytest.mark.parametrize("form", masking.MASK_FORMS)
def test_masks_are_differentiable(form: str) -> None:
    maps = torch.randn(2, 1, 5, 5, requires_grad=True)
    (masking.to_masks(maps, form) * torch.randn(2, 1, 5, 5)).sum().backward()
    assert maps.grad is not None
    assert torch.isfinite(maps.grad).all()
    assert maps.grad.abs().sum() > 0


@pytest.mark.parametrize("form", masking.MASK_FORMS)
def test_constant_maps_have_finite_gradients(form: str) -> None:
    maps = torch.full((1, 1, 5, 5), 2.0, requires_grad=True)
    masking.to_masks(maps, form).sum().backward()
    assert maps.grad is not None
    assert torch.isfinite(maps.grad).all()


def test_unknown_names_are_refused() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'minmax'"):
        masking.to_masks(torch.zeros(1, 2, 2), "min-max")
    with pytest.raises(UnknownNameError, match="did you mean 'black'"):
        masking.make_fill("blak", torch.zeros(1, 3, 2, 2), PREPROCESSING)
    with pytest.raises(UnknownNameError, match="did you mean 'nearest'"):
        masking.upsample(torch.zeros(1, 1, 2, 2), (4, 4), "neares")


def test_resize_is_bilinear_without_aligned_corners() -> None:
    maps = torch.tensor([[[[0.0, 1.0]]]])
    expected = torch.tensor([0.0, 0.25, 0.75, 1.0]).expand(1, 1, 2, 4)
    torch.testing.assert_close(masking.resize(maps, (2, 4)), expected)
    assert masking.resize(maps, (1, 2)) is maps


@pytest.mark.parametrize("size", [(12, 20), (13, 22), (2, 3)])
def test_repeated_cells_hold_the_value_of_the_cell_around_the_pixel(size: tuple[int, int]) -> None:
    maps = torch.randn(2, 3, 4, 5)
    repeated = masking.repeat_cells(maps, size)
    for i in range(size[0]):
        for j in range(size[1]):
            row, column = int((i + 0.5) * 4 / size[0]), int((j + 0.5) * 5 / size[1])
            assert torch.equal(repeated[..., i, j], maps[..., row, column])
    assert torch.equal(masking.upsample(maps, size, "nearest"), repeated)
    assert torch.equal(masking.upsample(maps, size), masking.resize(maps, size))


@pytest.mark.parametrize("share", [0.5, 0.15])
def test_keep_share_keeps_about_that_share(share: float) -> None:
    masks = torch.rand(4, 1, 40, 40)
    kept = masking.keep_share(masks, torch.full((4,), share), softness=1e-4)
    counts = (kept > 0.5 * masks).float().mean(dim=(1, 2, 3))
    torch.testing.assert_close(counts, torch.full((4,), share), atol=0.01, rtol=0)
    for mask, stays in zip(masks, kept > 0.5 * masks, strict=True):
        assert mask[stays].min() > mask[~stays].max()


def test_keep_share_takes_each_image_own_share() -> None:
    masks = torch.rand(3, 2, 20, 20)
    kept = masking.keep_share(masks, torch.tensor([1.0, 0.5, 0.1]), softness=1e-4)
    assert torch.equal(kept[0], masks[0])
    shares = (kept > 0.5 * masks).float().mean(dim=(2, 3))
    torch.testing.assert_close(
        shares, torch.tensor([[1.0, 1.0], [0.5, 0.5], [0.1, 0.1]]), atol=0.01, rtol=0
    )


def test_keep_share_is_differentiable() -> None:
    masks = torch.rand(2, 1, 8, 8, requires_grad=True)
    masking.keep_share(masks, torch.tensor([0.5, 1.0]), softness=0.05).sum().backward()
    assert masks.grad is not None
    assert torch.isfinite(masks.grad).all()
    assert (masks.grad[0] > 0).any()
    assert torch.equal(masks.grad[1], torch.ones_like(masks.grad[1]))


@pytest.mark.parametrize("reverse", [False, True])
def test_black_fill_is_masking_the_pixels_and_normalising_them(reverse: bool) -> None:
    preprocessing = replace(PREPROCESSING, reverse=reverse)
    pixels, masks = torch.rand(2, 3, 8, 8), torch.rand(2, 1, 8, 8)
    images = preprocessing.normalise(pixels)
    fill = masking.make_fill("black", images, preprocessing)
    expected = preprocessing.normalise(pixels * masks)
    torch.testing.assert_close(masking.apply_mask(images, masks, fill), expected)


def test_mean_fill_is_masking_the_normalised_image() -> None:
    images, masks = torch.randn(2, 3, 8, 8), torch.rand(2, 1, 8, 8)
    fill = masking.make_fill("mean", images, PREPROCESSING)
    torch.testing.assert_close(masking.apply_mask(images, masks, fill), images * masks)
    removed = masking.apply_mask(images, torch.zeros_like(masks), fill)
    mean = torch.tensor(PREPROCESSING.mean).view(1, 3, 1, 1).expand_as(images)
    torch.testing.assert_close(PREPROCESSING.denormalise(removed), mean)


def test_blur_leaves_a_constant_image_and_flattens_noise() -> None:
    constant = torch.tensor([1.0, -2.0, 0.5]).view(1, 3, 1, 1).expand(2, 3, 20, 24)
    torch.testing.assert_close(masking.make_fill("blur", constant, PREPROCESSING), constant)
    noise = torch.randn(1, 3, 64, 48)
    blurred = masking.make_fill("blur", noise, PREPROCESSING)
    assert blurred.shape == noise.shape
    assert blurred.std() < 0.3 * noise.std()


def test_blur_is_the_same_along_both_axes() -> None:
    image = torch.randn(1, 3, 32, 32)
    turned = masking.make_fill("blur", image.transpose(2, 3), PREPROCESSING)
    torch.testing.assert_close(
        turned.transpose(2, 3), masking.make_fill("blur", image, PREPROCESSING), atol=1e-5, rtol=0
    )


@pytest.mark.parametrize("fill", masking.FILLS)
def test_full_masks_keep_the_image(fill: str) -> None:
    images = torch.randn(2, 3, 16, 16)
    colour = masking.make_fill(fill, images, PREPROCESSING)
    torch.testing.assert_close(masking.apply_mask(images, torch.ones(2, 1, 16, 16), colour), images)


@pytest.mark.parametrize("fill", masking.FILLS)
def test_half_precision_images_stay_half(fill: str) -> None:
    images = torch.randn(1, 3, 16, 16).bfloat16()
    colour = masking.make_fill(fill, images, PREPROCESSING)
    masked = masking.apply_mask(images, torch.rand(1, 1, 16, 16).bfloat16(), colour)
    assert masked.dtype == torch.bfloat16
    assert torch.isfinite(masked).all()


def test_apply_mask_with_a_number() -> None:
    images = torch.full((1, 1, 1, 2), 4.0)
    masks = torch.tensor([[[[0.25, 1.0]]]])
    assert masking.apply_mask(images, masks, 0.0).flatten().tolist() == [1.0, 4.0]
    assert masking.apply_mask(images, masks, 2.0).flatten().tolist() == [2.5, 4.0]
