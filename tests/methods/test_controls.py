from __future__ import annotations

import pytest
import torch

from tiny_backbone import tiny_backbone
from ttame.methods.controls import all_ones, centre_gaussian, random_map


@pytest.fixture(scope="module")
def backbone():
    return tiny_backbone()


def test_random_depends_on_photo_and_class_only(backbone):
    pixels = torch.randint(0, 256, (3, 3, 32, 32)) / 255
    images = backbone.preprocessing.normalise(pixels)
    maps = random_map(backbone, images, torch.tensor([[0, 1]] * 3))
    assert maps.shape == (3, 2, 7, 7)
    assert maps.min() >= 0
    assert maps.max() < 1
    # Another place in another batch, and rounding noise as between devices, change nothing.
    again = random_map(backbone, images[[2, 0]] + 1e-5, torch.tensor([[1], [1]]))
    assert torch.equal(again[:, 0], maps[[2, 0], 1])
    assert not torch.equal(maps[0, 0], maps[1, 0])
    assert not torch.equal(maps[0, 0], maps[0, 1])


def test_all_ones(backbone):
    maps = all_ones(backbone, torch.zeros(2, 3, 8, 8), torch.zeros(2, 3, dtype=torch.long))
    assert torch.equal(maps, torch.ones(2, 3, 8, 8))


def test_centre_gaussian_on_a_wide_image(backbone):
    maps = centre_gaussian(backbone, torch.zeros(1, 3, 8, 16), torch.zeros(1, 1, dtype=torch.long))
    bell = maps[0, 0]
    assert bell.shape == (8, 16)
    torch.testing.assert_close(bell, bell.flip(0, 1))
    assert bell.max() == bell[3, 7]
    # At a distance of half the side minus half a pixel, with sigma a quarter of the side.
    expected = torch.tensor(-((0.5 / 8 - 0.5) ** 2 + (0.5 / 16 - 0.5) ** 2) / 2 * 16).exp()
    torch.testing.assert_close(bell[0, 0], expected)
