"""Overlays, titled pictures and contact sheets, pixel by pixel."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from matplotlib import colormaps
from PIL import Image

from ttame.errors import InputError, UnknownNameError
from ttame.pictures import COLOUR_MAP, contact_sheet, overlay, picture, write_png

GREY = np.full((3, 40, 60), 0.5, dtype=np.float32)


def corner_mask(height=4, width=6):
    mask = torch.zeros(height, width)
    mask[0, 0] = 1
    return mask


def colour(value, name=COLOUR_MAP):
    return np.array(colormaps[name](value, bytes=True)[:3], dtype=int)


def test_overlay_is_hot_where_the_mask_is_hot():
    image = np.asarray(overlay(GREY, corner_mask()), dtype=int)
    assert image.shape == (40, 60, 3)
    np.testing.assert_allclose(image[0, 0], (128 + colour(1.0)) / 2, atol=1)
    np.testing.assert_allclose(image[-1, -1], (128 + colour(0.0)) / 2, atol=1)
    brightness = image.sum(axis=2)
    assert np.unravel_index(brightness.argmax(), brightness.shape) < (5, 5)


@pytest.mark.parametrize("name", ["turbo", "viridis", "inferno"])
def test_overlay_uses_the_colour_map(name):
    image = np.asarray(overlay(GREY, np.ones((2, 2)), alpha=1, colour_map=name))
    np.testing.assert_array_equal(image[20, 30], colour(1.0, name))


def test_no_opacity_shows_the_photo():
    photo = np.random.default_rng(0).integers(0, 256, (3, 5, 7))
    image = np.asarray(overlay(photo / 255, np.ones((2, 2)), alpha=0))
    np.testing.assert_array_equal(image, photo.transpose(1, 2, 0))


def test_the_mask_is_resized_as_torch_does():
    mask = torch.rand(4, 6)
    expected = torch.nn.functional.interpolate(mask[None, None], size=(40, 60), mode="bilinear")
    # The grey map shows the resized mask itself.
    image = np.asarray(overlay(GREY, mask, alpha=1, colour_map="gray"), dtype=int)
    np.testing.assert_allclose(image[..., 0], expected[0, 0].numpy() * 255, atol=2)


def test_grey_photos_half_precision_and_undefined_maps_are_drawn():
    mask = torch.full((2, 2), float("nan"))
    image = overlay(torch.ones(1, 8, 8, dtype=torch.bfloat16), mask, alpha=0.5)
    np.testing.assert_allclose(np.asarray(image)[4, 4], (255 + colour(0.0)) / 2, atol=1)


@pytest.mark.parametrize("channels", [2, 4, 6])
def test_channels_that_are_no_colours_are_shown_by_their_mean(channels):
    pixels = np.random.default_rng(0).random((channels, 8, 6))
    shown = np.asarray(overlay(pixels, np.zeros((2, 2)), alpha=0))
    expected = np.rint(pixels.astype(np.float32).mean(axis=0) * 255)
    assert np.abs(shown - expected[..., None]).max() <= 1


@pytest.mark.parametrize(
    ("pixels", "mask", "alpha"),
    [
        (np.ones((8, 8)), np.ones((2, 2)), 0.5),
        (np.ones((3, 8, 0)), np.ones((2, 2)), 0.5),
        (np.ones((3, 8, 8)), np.ones((1, 2, 2)), 0.5),
        (np.ones((3, 8, 8)), np.ones((0, 2)), 0.5),
        (np.ones((3, 8, 8)), np.ones((2, 2)), 1.5),
    ],
)
def test_wrong_shapes_are_refused(pixels, mask, alpha):
    with pytest.raises(InputError, match="expected"):
        overlay(pixels, mask, alpha=alpha)


def test_an_unknown_colour_map_names_the_nearest():
    with pytest.raises(UnknownNameError, match="did you mean 'viridis'"):
        overlay(GREY, np.ones((2, 2)), colour_map="virids")


@pytest.mark.parametrize("shape", [(3, 40, 60), (3, 60, 40), (3, 600, 500)])
def test_a_picture_is_crisp_and_holds_photo_and_bar(shape):
    image = picture(np.full(shape, 0.5), corner_mask(), "tench  97.1%")
    assert image.mode == "RGB"
    side = max(448, min(shape[1:]))
    assert min(image.size) >= side
    assert image.height / image.width == pytest.approx(shape[1] / shape[2], rel=0.3)
    array = np.asarray(image, dtype=int)
    assert (array[0] == 255).all()
    # The colour bar's ends: the hottest colour above the coldest one, at full opacity.
    for value in (0.0, 1.0):
        assert (abs(array - colour(value)).max(axis=2) <= 1).any()
    rows = [np.argwhere(abs(array - colour(v)).max(axis=2) <= 1)[:, 0].min() for v in (1.0, 0.0)]
    assert rows[0] < rows[1]


def test_the_title_is_drawn_above_the_photo():
    plain = picture(GREY, corner_mask())
    titled = picture(GREY, corner_mask(), "tench")
    extra = titled.height - plain.height
    assert extra > 0
    assert plain.width == titled.width
    band = np.asarray(titled)[: 16 + extra]
    assert (band < 100).all(axis=2).any()
    np.testing.assert_array_equal(np.asarray(titled)[16 + extra :], np.asarray(plain)[16:])


@pytest.mark.parametrize(
    "title", ["x" * 500, "word " * 80 + "97.1%", "Ω größe ねこ 🐟", "a\nb\tc", "\udcff.png", " "]
)
def test_any_title_can_be_drawn(title):
    assert picture(GREY, corner_mask(), title).width == picture(GREY, corner_mask()).width


def test_a_long_title_keeps_its_probability():
    from ttame.pictures import _fitted, _font

    font = _font(20)
    line = _fitted("a very long class name indeed  97.1%", font, 200)
    assert line.startswith("a very")
    assert line.endswith("…  97.1%")
    assert font.getlength(line) <= 200


def test_png_keeps_every_pixel(tmp_path):
    image = picture(GREY, corner_mask(), "tench")
    with (tmp_path / "a.png").open("wb") as file:
        write_png(image, file)
    with Image.open(tmp_path / "a.png") as back:
        assert back.format == "PNG"
        np.testing.assert_array_equal(np.asarray(back), np.asarray(image))


def test_contact_sheet_places_pictures_in_a_grid():
    red, blue = Image.new("RGB", (30, 30), "red"), Image.new("RGB", (60, 30), "blue")
    sheet = contact_sheet([[red, blue], [blue]], [["photo", "map"]], side=60)
    array = np.asarray(sheet)
    gap, head = 4, round(1.6 * 11)
    assert sheet.size == (gap + 2 * 64, gap + 2 * (head + 64))
    assert tuple(array[gap + head + 30, gap + 30]) == (255, 0, 0)
    assert tuple(array[gap + head + 30, gap + 64 + 30]) == (0, 0, 255)
    # A flat picture is centred in its square, not stretched.
    assert tuple(array[gap + head + 5, gap + 64 + 30]) == (255, 255, 255)
    assert tuple(array[2 * (gap + head) + 60 + 30, gap + 30]) == (0, 0, 255)
    assert (array[2 * (gap + head) + 60 :, gap + 64 :] == 255).all()


@pytest.mark.parametrize(("rows", "titles"), [([], []), ([[]], []), ([["x"]], [["a", "b"]])])
def test_contact_sheet_refuses(rows, titles):
    with pytest.raises(InputError, match="expected"):
        contact_sheet(rows, titles)
