from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from ttame.errors import ImageError, InputError
from ttame.images.augmentation import RandomView
from ttame.images.bands import Bands, as_bands
from ttame.images.dataset import Broken, PhotoDataset, check_channels
from ttame.images.listing import Photo, list_photos
from ttame.images.preprocessing import Preprocessing
from ttame.images.reading import as_photo

SIX = Preprocessing(crop=(4, 6), resize=8, mean=(0.5,) * 6, std=(0.5,) * 6)


@pytest.mark.parametrize(
    ("kind", "full"), [(np.uint8, 255), (np.uint16, 65535), (np.float32, 1), (np.float64, 1)]
)
def test_values_keep_their_full_range(kind, full):
    array = (np.linspace(0, 1, 2 * 3 * 5).reshape(2, 3, 5) * full).astype(kind)
    for photo in (array, torch.from_numpy(array).permute(2, 0, 1)):
        found = as_bands(photo, 5).to_array()
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, np.moveaxis(array / full, 2, 0), atol=1e-6)


@pytest.mark.parametrize("shape", [(10, 16), (16, 9), (600, 4)])
def test_every_channel_is_seen_like_a_grey_picture(shape):
    array = np.random.default_rng(0).random((*shape, 6), dtype=np.float32)
    found = SIX.pixels(as_photo(array, channels=6))
    assert found.shape == (6, 4, 6)
    for index in range(6):
        alone = SIX.view(Image.fromarray(np.ascontiguousarray(array[..., index])))
        np.testing.assert_allclose(found[index], np.asarray(alone).clip(0, 1), atol=1e-6)


def test_four_channels_are_channels_and_no_transparency():
    array = np.zeros((4, 6, 4), dtype=np.uint8)
    array[..., 3] = 51
    four = Preprocessing(crop=(4, 6), resize=None, mean=(0.5,) * 4, std=(0.5,) * 4)
    pixels = four.pixels(as_photo(array, channels=4))
    assert pixels[:3].max() == 0
    torch.testing.assert_close(pixels[3], torch.full((4, 6), 0.2))


def test_a_random_view_is_the_same_for_all_channels():
    array = np.random.default_rng(0).random((12, 14, 1), dtype=np.float32).repeat(6, axis=2)
    for _ in range(4):
        view = RandomView(SIX)(Bands.from_array(array))
        pixels = SIX.to_tensor(view)
        assert pixels.shape == (6, 4, 6)
        assert torch.equal(pixels, pixels[:1].expand(6, -1, -1))


@pytest.mark.parametrize(
    ("photo", "error"),
    [
        ("photo.png", ImageError),
        (Image.new("RGB", (4, 4)), ImageError),
        (np.zeros((4, 4, 3)), InputError),
        (np.zeros((6, 4, 4)), InputError),
        (torch.zeros(4, 4, 6), InputError),
        (torch.zeros(6, 4), InputError),
    ],
)
def test_what_has_other_channels_is_refused(photo, error):
    with pytest.raises(error, match=r"reads 6 channels.*\(H, W, 6\) or a tensor \(6, H, W\)"):
        as_photo(photo, channels=6)


def test_values_outside_the_range_are_refused():
    with pytest.raises(InputError, match=r"in \[0, 1\]"):
        as_bands(np.full((2, 2, 5), 1.5), 5)
    with pytest.raises(InputError, match="int64"):
        as_bands(np.zeros((2, 2, 5), dtype=np.int64), 5)


def test_a_data_set_refuses_files_and_reports_single_wrong_arrays(tmp_path):
    with pytest.raises(InputError, match="which photo files do not have"):
        PhotoDataset([Photo(tmp_path / "a.png")], SIX)
    arrays = [np.zeros((4, 6, 6)), np.zeros((4, 6, 3))]
    dataset = PhotoDataset(list_photos(arrays), SIX)
    assert dataset[0].pixels.shape == (6, 4, 6)
    assert isinstance(dataset[1], Broken)
    with pytest.raises(InputError, match="got shape"):
        check_channels(list_photos(arrays[1:]), SIX)
