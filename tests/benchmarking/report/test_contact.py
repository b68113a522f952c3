from __future__ import annotations

import numpy as np
import pytest
import torch

from tiny_backbone import tiny_backbone
from ttame.benchmarking.report.contact import SIDE, contact_sheet, jpeg
from ttame.errors import BackboneError, InputError
from ttame.methods.registry import Method, get_method


def bright_left(backbone, images, classes):
    maps = torch.zeros(*classes.shape, 4, 4)
    maps[..., :2] = 5.0
    return maps


def refused(backbone, images, classes):
    raise BackboneError("the classifier has no attention blocks")


def nan_map(backbone, images, classes):
    return torch.full((*classes.shape, 4, 4), torch.nan)


def broken(backbone, images, classes):
    raise RuntimeError("out of\nmemory")


@pytest.fixture
def sheet():
    backbone = tiny_backbone((32, 24))
    methods = [
        Method("left", "Left", bright_left),
        Method("refused", "Refused", refused),
        Method("nan", "NaN", nan_map),
        Method("broken", "Broken", broken),
        get_method("all_ones"),
    ]
    photos = torch.rand(2, 3, 32, 24)
    return contact_sheet(backbone, methods, photos, torch.tensor([3, 0]), notes=["worst", ""])


def test_a_row_per_photo_and_a_cell_per_method(sheet):
    assert [row.title.split("  ")[0] for row in sheet.rows] == ["class 3", "class 0"]
    assert sheet.rows[0].title.endswith("%")
    assert sheet.rows[0].note == "worst"
    assert [cell.title for cell in sheet.rows[1].cells][:2] == ["Left", "Refused"]
    # Of the size of the photo, which is not square.
    assert sheet.rows[0].photo.size == sheet.rows[0].cells[0].image.size == (24, 32)


def test_what_fails_is_an_empty_cell_with_its_reason(sheet):
    left, refusal, nan, crash, ones = sheet.rows[0].cells
    assert refusal.image is nan.image is crash.image is None
    assert "no attention blocks" in refusal.reason
    assert "NaN" in nan.reason
    assert crash.reason == "RuntimeError: out of"
    assert left.image is not None
    assert ones.image is not None


def test_maps_share_colours_and_scale(sheet):
    photo = np.asarray(sheet.rows[0].photo, dtype=float)
    left, *_, ones = (cell.image for cell in sheet.rows[0].cells)
    left, ones = (np.asarray(image, dtype=float) for image in (left, ones))
    # Stretched to 1 on the left like the mask of ones, to 0 on the right.
    np.testing.assert_allclose(left[:, :6], ones[:, :6], atol=1)
    np.testing.assert_allclose(left[:, -3:], 0.4 * photo[:, -3:], atol=3)


def test_large_photos_become_small():
    backbone = tiny_backbone((400, 200))
    wide = contact_sheet(
        backbone, [get_method("random")], torch.rand(1, 3, 400, 200), torch.tensor([0])
    )
    assert wide.rows[0].photo.size == (SIDE // 2, SIDE)
    assert len(jpeg(wide.rows[0].cells[0].image)) < 12_000


def test_picture_has_every_cell(sheet):
    picture = sheet.picture(side=40)
    # 6 columns of 40 pixels with gaps of 4, titles above.
    assert picture.width == 4 + 6 * 44
    assert picture.height > 2 * 44


def test_wrong_numbers_are_refused():
    backbone = tiny_backbone()
    photos = torch.rand(2, 3, 32, 32)
    with pytest.raises(InputError, match="expected 2 classes"):
        contact_sheet(backbone, [], photos, torch.tensor([1]))
    with pytest.raises(InputError, match="titles and notes"):
        contact_sheet(backbone, [], photos, torch.tensor([1, 2]), titles=["one"])
