from __future__ import annotations

import pytest
import torch

from tiny_cases import make_case
from ttame.errors import UnknownNameError
from ttame.metrics.fills import FILLS, blurred, fill_photos
from ttame.metrics.measure import get_measure


def test_fills_are_what_they_say():
    case = make_case(images=2, size=(32, 48))
    # The tiny classifier's mean colour is 0.5.
    assert torch.equal(fill_photos(case, "mean"), torch.full_like(case.pixels, 0.5))
    assert torch.equal(fill_photos(case, "black"), torch.zeros_like(case.pixels))
    own = fill_photos(case, "photo_mean")
    for photo, filled in zip(case.pixels, own, strict=True):
        for colour, flat in zip(photo, filled, strict=True):
            torch.testing.assert_close(flat, torch.full_like(flat, colour.mean().item()))
    assert not torch.allclose(own[0], own[1])
    flat = torch.full((1, 3, 4, 4), 0.3)
    torch.testing.assert_close(blurred(flat), flat)


@pytest.mark.parametrize("name", FILLS)
def test_every_fill_has_the_photos_shape(name):
    case = make_case(images=2, size=(32, 48))
    assert fill_photos(case, name).shape == case.pixels.shape


@pytest.mark.parametrize(
    ("measure", "option"),
    [
        ("confidence", "fill"),
        ("adcc", "fill"),
        ("insertion_deletion", "insertion_fill"),
        ("insertion_deletion", "deletion_fill"),
        ("srg", "fill"),
        ("transfer", "fill"),
    ],
)
def test_measures_that_remove_pixels_take_every_fill_and_name_the_nearest(measure, option):
    case = make_case(images=2)
    case = make_case(images=2, judge=case.backbone)
    found = [
        torch.stack(list(get_measure(measure, **{option: name})(case).values.values()))
        for name in FILLS
    ]
    assert all(not torch.allclose(one, found[0], equal_nan=True) for one in found[1:])
    with pytest.raises(UnknownNameError, match="photo_mean"):
        get_measure(measure, **{option: "photo_meen"})(case)
