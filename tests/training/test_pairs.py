from __future__ import annotations

import pytest
import torch

from ttame.images.pairs import beside
from ttame.training.pairs import pair_up


def test_the_first_images_stand_beside_the_next_one_in_all_four_ways():
    images = torch.rand(3, 2, 8, 8)
    ways = set()
    for seed in range(30):
        torch.manual_seed(seed)
        paired = pair_up(images, 2)
        assert torch.equal(paired[2], images[2])
        for own, other, picture in zip(images[:2], images[1:], paired[:2], strict=True):
            expected = {
                (dim, turned): beside(*((other, own) if turned else (own, other)), dim)
                for dim in (-1, -2)
                for turned in (False, True)
            }
            fitting = [way for way, each in expected.items() if torch.equal(picture, each)]
            assert len(fitting) == 1
            ways.update(fitting)
    assert len(ways) == 4


def test_the_last_image_stands_beside_the_first():
    images = torch.arange(3.0).view(3, 1, 1, 1).expand(3, 1, 4, 4)
    assert sorted(pair_up(images, 3)[2].unique().tolist()) == [0, 2]


@pytest.mark.parametrize("count", [0, 2])
def test_images_are_not_changed_in_place(count):
    images = torch.rand(2, 3, 6, 6)
    before = images.clone()
    pair_up(images, count)
    assert torch.equal(images, before)


def test_without_pairs_nothing_is_drawn():
    torch.manual_seed(0)
    before = torch.random.get_rng_state()
    assert pair_up(torch.rand(0, 3, 4, 4), 0).shape == (0, 3, 4, 4)
    assert torch.equal(torch.random.get_rng_state(), before)
