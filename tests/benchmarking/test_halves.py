from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ttame.benchmarking.halves import HALVES, arrange, half_of, photo_keys, photo_seed
from ttame.errors import InputError, UnknownNameError
from ttame.images.listing import Photo

PHOTOS = [Photo(Path(f"folder/{index:03d}.jpg")) for index in range(200)]


def test_halves_are_about_equal_and_fixed():
    halves = [half_of(photo.path.name) for photo in PHOTOS]
    assert 80 < halves.count("choosing") < 120
    # Fixed for ever: changing these would mix photos to tune on with photos to publish.
    names = ("000.jpg", "001.jpg", "002.jpg", "003.jpg")
    assert [half_of(name)[0] for name in names] == ["r", "c", "c", "c"]


@given(st.text(), st.text())
def test_the_half_depends_on_the_file_name_only(folder, name):
    path = Path("/data") / folder.replace("\0", "") / f"{name}.jpg".replace("\0", "")
    assert half_of(path.name) in HALVES
    photos = [Photo(Path("elsewhere") / path.name), *PHOTOS]
    chosen = {photo.path.name for photo in arrange(photos, half_of(path.name), 0, None)}
    assert path.name in chosen


def test_any_first_part_is_the_same_whatever_else_there_is():
    every = arrange(PHOTOS, "all", 0, None)
    assert sorted(every, key=lambda photo: photo.path) == PHOTOS
    assert every != PHOTOS
    assert arrange(PHOTOS, "all", 0, 50) == every[:50]
    assert arrange(PHOTOS[::-1], "all", 0, None) == every
    assert arrange(PHOTOS, "all", 1, None) != every
    fewer = arrange(PHOTOS[:100], "all", 0, None)
    assert fewer == [photo for photo in every if photo in PHOTOS[:100]]
    assert arrange([*PHOTOS, *PHOTOS], "all", 0, None) == every


@pytest.mark.parametrize("below", ["", "images/"])
def test_photos_of_one_name_are_drawn_at_random_from_all_folders(below):
    photos = [
        Photo(Path(f"data/{folder:03d}/{below}image{k}.jpg"))
        for folder in range(100)
        for k in range(3)
    ]
    every = arrange(photos, "all", 0, None)
    assert sorted(every, key=lambda photo: photo.path) == photos
    first = every[:30]
    assert len({photo.path.name for photo in first}) == 3
    folders = [int(photo.path.parts[1]) for photo in first]
    assert max(folders) > 80
    assert folders != sorted(folders)
    assert arrange(photos[::-1], "all", 0, 30) == first
    assert len({photo_seed(0, key) for key in photo_keys(photos).values()}) == 300


def test_a_photo_with_two_labels_keeps_its_place():
    twice = [Photo(photo.path, 1) for photo in PHOTOS]
    order = [photo.path for photo in arrange([*PHOTOS, *twice], "all", 0, None)[::2]]
    assert order == [photo.path for photo in arrange(PHOTOS, "all", 0, None)]


def test_seeds_differ_from_photo_to_photo():
    assert len({photo_seed(0, photo.path.name) for photo in PHOTOS}) == 200


def test_wrong_values_are_refused():
    with pytest.raises(UnknownNameError, match="choosing"):
        arrange(PHOTOS, "chosing", 0, None)
    with pytest.raises(InputError, match="at least 1"):
        arrange(PHOTOS, "all", 0, 0)
    alone = [photo for photo in PHOTOS if half_of(photo.path.name) == "choosing"][:1]
    with pytest.raises(InputError, match=r"file name \(1 different ones here\)"):
        arrange(alone, "reporting", 0, None)
