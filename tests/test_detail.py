from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from ttame.detail import edge_strength, mixed_with_edges, with_detail
from ttame.errors import InputError


def photos(count: int = 2, channels: int = 3, size: tuple[int, int] = (12, 12)) -> Tensor:
    return torch.rand(count, channels, *size, generator=torch.Generator().manual_seed(1))


def slow_edges(photo: Tensor) -> Tensor:
    """Sobel by loops: the border repeated, the mean over the channels."""
    grey = photo.mean(dim=0)
    height, width = grey.shape
    smooth, slope = (1, 2, 1), (-1, 0, 1)
    result = torch.zeros(height, width)
    for y in range(height):
        for x in range(width):
            down = across = 0.0
            for i in range(3):
                for j in range(3):
                    near = grey[
                        min(max(y + i - 1, 0), height - 1), min(max(x + j - 1, 0), width - 1)
                    ]
                    across += smooth[i] * slope[j] * float(near)
                    down += slope[i] * smooth[j] * float(near)
            result[y, x] = math.hypot(across, down)
    return result


def slow_detail(mask: Tensor, photo: Tensor, detail: float) -> Tensor:
    edges = slow_edges(photo).double()
    deviation = math.sqrt(float(((edges - edges.mean()) ** 2).mean()))
    ranks = 0.5 * (1 + torch.erf((edges - edges.mean()) / (deviation * math.sqrt(2))))
    low, span = float(mask.min()), float(mask.max() - mask.min())
    mixed = (1 - detail) * (mask.double() - low) / span + detail * ranks
    return (low + span * (mixed - mixed.min()) / (mixed.max() - mixed.min())).float()


@pytest.mark.parametrize(("channels", "size"), [(3, (12, 12)), (1, (9, 14)), (5, (14, 9))])
def test_edges_equal_the_slow_ones(channels: int, size: tuple[int, int]):
    pixels = photos(2, channels, size)
    expected = torch.stack([slow_edges(photo) for photo in pixels])[:, None]
    torch.testing.assert_close(edge_strength(pixels), expected)


@pytest.mark.parametrize("span", [1.0, 0.1])
@pytest.mark.parametrize("detail", [0.06, 0.5, 1.0])
def test_masks_equal_the_slow_ones(detail: float, span: float):
    pixels = photos(2, size=(9, 14))
    # More classes than are mixed at once.
    masks = torch.rand(2, 19, 9, 14, generator=torch.Generator().manual_seed(2))
    masks = 0.3 + span * (masks - 0.3)
    found = with_detail(masks, pixels, detail)
    for i in range(2):
        for j in range(19):
            torch.testing.assert_close(found[i, j], slow_detail(masks[i, j], pixels[i], detail))


def test_edges_are_computed_in_whole_float32_under_autocast():
    pixels = photos(1)
    expected = edge_strength(pixels)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(edge_strength(pixels), expected)
    assert edge_strength(pixels.half()).dtype == torch.float32


def test_no_detail_changes_nothing():
    masks = torch.rand(1, 1, 12, 12)
    assert with_detail(masks, photos(1), 0.0) is masks


@pytest.mark.parametrize("level", [0.0, 0.3, 1.0])
def test_a_constant_mask_stays_constant(level: float):
    masks = torch.full((1, 1, 12, 12), level)
    assert torch.equal(with_detail(masks, photos(1), 0.2), masks)


def test_a_photo_without_edges_leaves_the_mask_as_it_is():
    masks = torch.linspace(0, 1, 144).view(1, 1, 12, 12)
    found = with_detail(masks, torch.full((1, 3, 12, 12), 0.4), 0.2)
    torch.testing.assert_close(found, masks)


def test_a_little_detail_keeps_the_order_of_what_is_far_apart():
    masks = torch.rand(1, 1, 12, 12, generator=torch.Generator().manual_seed(3))
    found = with_detail(masks, photos(1), 0.1).flatten()
    given = masks.flatten()
    # Ranks differ by at most 1, so a step above d / (1 - d) stays a step.
    higher = given[:, None] - given[None] > 0.1 / 0.9
    assert higher.any()
    assert (found[:, None] > found[None])[higher].all()
    torch.testing.assert_close((found.min(), found.max()), (given.min(), given.max()))


def test_no_image_depends_on_the_others():
    pixels = photos(3)
    masks = torch.rand(3, 2, 12, 12, generator=torch.Generator().manual_seed(4))
    alone = torch.cat(
        [with_detail(masks[i : i + 1], pixels[i : i + 1], 0.1) for i in range(len(pixels))]
    )
    torch.testing.assert_close(with_detail(masks, pixels, 0.1), alone, atol=1e-6, rtol=0)


def test_mixing_has_the_gradient_of_the_mask():
    masks = torch.rand(1, 1, 12, 12, requires_grad=True)
    mixed_with_edges(masks, photos(1), 0.25).sum().backward()
    assert masks.grad is not None
    torch.testing.assert_close(masks.grad, torch.full_like(masks, 0.75))


@pytest.mark.parametrize("detail", [-0.1, 1.1, math.nan])
def test_detail_outside_its_range_is_refused(detail: float):
    with pytest.raises(InputError, match="detail from 0"):
        with_detail(torch.rand(1, 1, 12, 12), photos(1), detail)


def test_masks_of_another_size_are_refused():
    with pytest.raises(InputError, match=r"\(1, 3, 12, 12\).*\(1, 1, 7, 7\)"):
        with_detail(torch.rand(1, 1, 7, 7), photos(1), 0.1)


def test_masks_of_other_photos_are_refused():
    with pytest.raises(InputError, match=r"\(3, 3, 12, 12\).*\(1, 1, 12, 12\)"):
        with_detail(torch.rand(1, 1, 12, 12), photos(3), 0.1)
