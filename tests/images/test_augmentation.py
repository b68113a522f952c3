from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from ttame.images.augmentation import RandomView
from ttame.images.preprocessing import Preprocessing


def gradient(width: int, height: int) -> Image.Image:
    """A photo whose red is the column and whose green is the row."""
    row, column = np.mgrid[:height, :width]
    return Image.fromarray(np.stack([column, row, 0 * row], axis=2).astype(np.uint8))


def corners(view: RandomView, photo: Image.Image, draws: int) -> set[tuple[int, ...]]:
    """(left, right, top) columns and rows of the photo that the views' borders show."""
    seen = set()
    for _ in range(draws):
        picture = np.asarray(view(photo))
        seen.add((int(picture[0, 0, 0]), int(picture[0, -1, 0]), int(picture[0, 0, 1])))
    return seen


def test_every_crop_and_its_mirror_is_drawn():
    view = RandomView(Preprocessing(crop=(4, 4), resize=6))
    seen = corners(view, gradient(6, 6), 400)
    straight = {(x, x + 3, y) for x in range(3) for y in range(3)}
    assert seen == straight | {(right, left, y) for left, right, y in straight}


def test_mirrors_half_of_the_time():
    view = RandomView(Preprocessing(crop=(4, 4), resize=6))
    mirrored = [np.asarray(view(gradient(6, 6)))[0, :2, 0] for _ in range(600)]
    assert np.mean([a > b for a, b in mirrored]) == pytest.approx(0.5, abs=0.07)


def test_torch_seeds_the_views():
    view = RandomView(Preprocessing(crop=(4, 4), resize=8))
    photo = gradient(30, 20)
    views = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        views.append([view(photo).tobytes() for _ in range(5)])
    assert views[0] == views[1] != views[2]


@pytest.mark.parametrize(("resize", "scale"), [(None, 8 / 7), (14, 8 / 7), (16, 1.0)])
def test_there_is_always_room_to_move(resize, scale):
    preprocessing = Preprocessing(crop=(14, 14), resize=resize)
    view = RandomView(preprocessing)
    assert view.scale == pytest.approx(scale)
    assert len(corners(view, gradient(200, 200), 60)) > 4


def test_enough_covers_the_resized_photo():
    for preprocessing in (Preprocessing(), Preprocessing(resize=None), Preprocessing(resize=224)):
        view = RandomView(preprocessing)
        size = preprocessing.size(Image.new("RGB", (1000, 1000)), view.scale)
        assert min(size) <= view.enough <= min(size) + 1
