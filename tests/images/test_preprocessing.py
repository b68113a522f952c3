from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision import transforms as T

from ttame.errors import InputError, UnknownNameError
from ttame.images.augmentation import RandomView
from ttame.images.preprocessing import Preprocessing

SIDE = st.integers(1, 90)


def noise(width: int, height: int, seed: int = 0) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def reference(preprocessing: Preprocessing) -> T.Compose:
    mode = T.InterpolationMode(preprocessing.interpolation)
    return T.Compose(
        [T.Resize(preprocessing.resize, mode), T.CenterCrop(preprocessing.crop), T.ToTensor()]
    )


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize(
    "size", [(500, 375), (375, 500), (343, 256), (341, 256), (256, 256), (224, 900), (100, 151)]
)
def test_equals_torchvision_exactly(size, interpolation):
    preprocessing = Preprocessing(interpolation=interpolation)
    photo = noise(*size)
    assert torch.equal(preprocessing.pixels(photo), reference(preprocessing)(photo))


@settings(max_examples=150, deadline=None)
@given(SIDE, SIDE, st.integers(1, 40), st.tuples(st.integers(1, 40), st.integers(1, 40)))
def test_equals_torchvision_for_any_size(width, height, resize, crop):
    if max(width, height) > 64 * min(width, height):
        return  # cut out before resizing; compared with a tolerance below
    preprocessing = Preprocessing(crop=crop, resize=resize)
    photo = noise(width, height)
    assert torch.equal(preprocessing.pixels(photo), reference(preprocessing)(photo))


@settings(max_examples=150, deadline=None)
@given(
    st.integers(1, 600),
    st.integers(1, 600),
    st.one_of(st.none(), st.integers(1, 40)),
    st.tuples(st.integers(1, 40), st.integers(1, 40)),
)
def test_every_view_has_the_size_of_the_crop(width, height, resize, crop):
    preprocessing = Preprocessing(crop=crop, resize=resize)
    photo = Image.new("RGB", (width, height), "white")
    for view in (preprocessing.view, RandomView(preprocessing)):
        assert view(photo).size == (crop[1], crop[0])


@pytest.mark.parametrize("size", [(1, 5000), (5000, 1), (3, 2000), (2000, 3)])
@pytest.mark.parametrize("resize", [256, None])
def test_extreme_photos(size, resize):
    preprocessing = Preprocessing(resize=resize)
    photo = Image.new("RGB", size, (10, 20, 30))
    for view in (preprocessing.view(photo), RandomView(preprocessing)(photo)):
        assert view.size == (224, 224)
        assert view.getcolors() == [(224 * 224, (10, 20, 30))]


# Bicubic overshoots, and noise shows most what clipping between the two passes does.
@pytest.mark.parametrize(("interpolation", "levels"), [("bilinear", 1), ("bicubic", 9)])
@pytest.mark.parametrize("size", [(4, 300), (300, 4), (7, 600)])
@pytest.mark.parametrize("crop", [(16, 16), (24, 12)])  # 24 is larger than the resized photo
def test_long_photos_nearly_equal_torchvision(size, crop, interpolation, levels):
    preprocessing = Preprocessing(crop=crop, resize=18, interpolation=interpolation)
    photo = noise(*size)
    ours, theirs = preprocessing.pixels(photo), reference(preprocessing)(photo)
    torch.testing.assert_close(ours, theirs, atol=(levels + 0.01) / 255, rtol=0)
    assert (ours - theirs).abs().mean() < 0.5 / 255


def test_squash_without_crop():
    preprocessing = Preprocessing(crop=(10, 20), resize=None)
    photo = noise(50, 40)
    expected = T.ToTensor()(photo.resize((20, 10), Image.Resampling.BILINEAR))
    assert torch.equal(preprocessing.pixels(photo), expected)


def test_squash_with_crop():
    preprocessing = Preprocessing(crop=(8, 10), resize=(12, 16))
    photo = noise(50, 40)
    squashed = photo.resize((16, 12), Image.Resampling.BILINEAR)
    expected = T.ToTensor()(squashed.crop((3, 2, 13, 10)))
    assert torch.equal(preprocessing.pixels(photo), expected)
    assert preprocessing.placement(50, 40) == ((16 / 50, 12 / 40), (3, 2))
    assert preprocessing.resized_sides == (12, 16)
    assert RandomView(preprocessing)(photo).size == (10, 8)


def test_place_moves_the_crop():
    preprocessing = Preprocessing(crop=(2, 2), resize=4)
    photo = noise(4, 4)
    for place, box in [((0, 0), (0, 0, 2, 2)), ((1, 0), (2, 0, 4, 2)), ((0.5, 1), (1, 2, 3, 4))]:
        assert preprocessing.view(photo, place=place).tobytes() == photo.crop(box).tobytes()


def test_normalise_and_denormalise():
    preprocessing = Preprocessing(mean=(0.5, 0.25, 0.0), std=(0.5, 0.25, 2.0))
    pixels = torch.rand(2, 3, 4, 5)
    images = preprocessing.normalise(pixels)
    torch.testing.assert_close(images[:, 1], (pixels[:, 1] - 0.25) / 0.25)
    torch.testing.assert_close(preprocessing.denormalise(images), pixels)
    torch.testing.assert_close(preprocessing.normalise(pixels[0]), images[0])
    assert preprocessing.normalise(pixels.double()).dtype == torch.float64


def test_channels_in_reverse_order():
    preprocessing = Preprocessing(mean=(0.5, 0.25, 0.0), std=(0.5, 0.25, 2.0), reverse=True)
    pixels = torch.rand(2, 3, 4, 5)
    images = preprocessing.normalise(pixels)
    torch.testing.assert_close(images[:, 0], pixels[:, 2] / 2)
    torch.testing.assert_close(images[:, 2], (pixels[:, 0] - 0.5) / 0.5)
    torch.testing.assert_close(preprocessing.denormalise(images), pixels)


def test_normalise_equals_torchvision():
    preprocessing = Preprocessing()
    pixels = torch.rand(3, 8, 8)
    expected = T.Normalize(preprocessing.mean, preprocessing.std)(pixels)
    assert torch.equal(preprocessing.normalise(pixels), expected)


def test_grey_classifier():
    preprocessing = Preprocessing(crop=(4, 4), resize=4, mean=(0.5,), std=(0.5,))
    pixels = preprocessing.pixels(Image.new("RGB", (6, 6), (51, 51, 51)))
    assert pixels.shape == (1, 4, 4)
    torch.testing.assert_close(pixels, torch.full((1, 4, 4), 0.2))


def test_dictionary_round_trip():
    for preprocessing in (
        Preprocessing(crop=(8, 9), resize=None, interpolation="bicubic"),
        Preprocessing(crop=(8, 9), resize=(10, 12), reverse=True),
        Preprocessing(crop=(8, 9), resize=12),
    ):
        written = json.loads(json.dumps(preprocessing.to_dict()))
        assert Preprocessing.from_dict(written) == preprocessing
    # Before the order of the channels was recorded, there was no other.
    del written["reverse"]
    assert Preprocessing.from_dict(written) == preprocessing


@pytest.mark.parametrize(
    "wrong",
    [
        {"crop": (0, 1)},
        {"resize": 0},
        {"resize": (0, 9)},
        {"mean": (0.5,)},
        {"std": (0.0, 1.0, 1.0)},
    ],
)
def test_wrong_values(wrong):
    with pytest.raises(InputError, match="expected"):
        Preprocessing(**wrong)


def test_wrong_interpolation_and_channels():
    with pytest.raises(UnknownNameError, match="did you mean 'bilinear'"):
        Preprocessing(interpolation="bilinar")
    with pytest.raises(InputError, match="reads 4 channels"):
        Preprocessing(mean=(0.5,) * 4, std=(0.5,) * 4).pixels(Image.new("RGB", (8, 8)))
