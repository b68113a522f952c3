from __future__ import annotations

import pytest
import torch

from ttame.images.pairs import beside


@pytest.mark.parametrize("size", [(8, 12), (7, 9), (2, 2)])
@pytest.mark.parametrize("dim", [-1, -2])
def test_each_half_of_the_picture_is_the_middle_of_its_photo(size, dim):
    first, second = torch.rand(2, 3, *size)
    picture = beside(first, second, dim)
    assert picture.shape == first.shape
    side = size[dim]
    half = side // 2
    for place in range(side):
        source, column = (first, place) if place < half else (second, place - half)
        expected = source.select(dim, side // 4 + column)
        assert torch.equal(picture.select(dim, place), expected)
