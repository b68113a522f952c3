from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from ttame.errors import InputError
from ttame.images.boxes import Box, boxes_at_input, read_boxes, squashed
from ttame.images.preprocessing import Preprocessing
from ttame.metrics.localisation import box_region


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "images").mkdir()
    for name in ("a.png", "b.png"):
        Image.new("RGB", (40, 30)).save(tmp_path / "images" / name)
    return tmp_path


def written(folder, text):
    path = folder / "boxes.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_boxes_are_grouped_by_photo_and_label(folder):
    path = written(
        folder,
        "file,imagenet_label,x0,y0,x1,y1\n"
        "images/a.png,3,1,2,10,20\n"
        "images/b.png,,0,0,40,30\n"
        "\n"
        "images/a.png,3,5.5,6,7,8.25\n"
        "images/a.png,4.0,0,0,1,1\n",
    )
    first, second, third = read_boxes(path)
    assert first.path == folder / "images" / "a.png"
    assert first.size == (40, 30)
    assert (first.label, second.label, third.label) == (3, None, 4)
    assert first.boxes == (Box(1, 2, 10, 20), Box(5.5, 6, 7, 8.25))
    assert read_boxes(str(path)) == [first, second, third]


def test_other_columns_and_separators_are_understood(folder):
    path = written(folder, "ymax;xmax;ymin;xmin;filename\n20;10;2;1;images/a.png\n")
    (photo,) = read_boxes(path)
    assert photo.boxes == (Box(1, 2, 10, 20),)
    assert photo.label is None


def test_boxes_a_pixel_over_the_edge_are_cut(folder):
    (photo,) = read_boxes(written(folder, "file,x0,y0,x1,y1\nimages/a.png,-1,0,41,30.5\n"))
    assert photo.boxes == (Box(0, 0, 40, 30),)


def test_the_size_is_that_of_the_upright_photo(folder):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (40, 30)).save(folder / "images" / "turned.jpg", exif=exif)
    (photo,) = read_boxes(written(folder, "file,x0,y0,x1,y1\nimages/turned.jpg,0,0,30,40\n"))
    assert photo.size == (30, 40)


@pytest.mark.parametrize(
    "box", ["5,5,5,9", "9,5,5,9", "0,0,60,9", "-9,0,9,9", "0,0,9,99", "nan,0,9,9", "0,0,inf,9"]
)
def test_boxes_that_are_none_are_refused_with_their_line(folder, box):
    text = f"file,x0,y0,x1,y1\nimages/a.png,1,1,2,2\nimages/b.png,{box}\n"
    with pytest.raises(InputError, match=r"line 3: expected a box .* 40 x 30"):
        read_boxes(written(folder, text))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file,x0,y0,x1,y1\nimages/a.png,1,2,3\n", "line 2: expected four numbers"),
        ("file,x0,y0,x1,y1\nimages/c.png,1,2,3,4\n", "line 2: photo .* cannot be read"),
        ("file,x0,y0,x1,y1\n,1,2,3,4\n", "line 2 names no photo"),
        ("file,label,x0,y0,x1,y1\nimages/a.png,cat,1,2,3,4\n", "line 2: expected a class index"),
        ("file,x0,y0,x1\n", "expected one of file, path"),
        ("x0,y0,x1,y1\n", "expected one of file, path"),
        ("", "expected one of file, path"),
        ("file,x0,y0,x1,y1\n", "holds no box"),
    ],
)
def test_malformed_files_are_refused(folder, text, message):
    with pytest.raises(InputError, match=message):
        read_boxes(written(folder, text))


def test_missing_files_are_refused(tmp_path):
    with pytest.raises(InputError, match="cannot be read"):
        read_boxes(tmp_path / "none.csv")


@settings(max_examples=40, deadline=None)
@given(
    width=st.integers(12, 60),
    height=st.integers(12, 60),
    resize=st.sampled_from([None, 16, 20, 32]),
    crop=st.sampled_from([(16, 16), (12, 20), (30, 16)]),
    corners=st.tuples(*(st.floats(0, 1) for _ in range(4))),
)
def test_boxes_go_where_the_pixels_go(width, height, resize, crop, corners):
    preprocessing = Preprocessing(crop=crop, resize=resize, interpolation="bilinear")
    x0, x1 = sorted(round(width * corner) for corner in corners[:2])
    y0, y1 = sorted(round(height * corner) for corner in corners[2:])
    painted = np.zeros((height, width, 3), dtype=np.uint8)
    painted[y0:y1, x0:x1] = 255
    view = preprocessing.pixels(Image.fromarray(painted))[0]
    boxes = boxes_at_input([(x0, y0, x1, y1)], (width, height), preprocessing)
    assert len(boxes) <= 1
    if len(boxes):
        assert boxes.min() >= 0
        assert (boxes[:, 2] <= crop[1]).all()
        assert (boxes[:, 3] <= crop[0]).all()
    # Resizing blurs the edges by up to a pixel of the photo, or of the input where that is larger.
    (across, down), (left, top) = preprocessing.placement(width, height)
    reach = 1.5 * max(1, across, down)
    # Of the whole box: one that lies just beyond the crop is blurred into it.
    scaled = [[x0 * across - left, y0 * down - top, x1 * across - left, y1 * down - top]]
    grown = torch.tensor(scaled) + torch.tensor([-reach, -reach, reach, reach])
    shrunk = boxes + torch.tensor([reach, reach, -reach, -reach])
    assert not view[~box_region(grown, crop)].gt(0.01).any()
    assert view[box_region(shrunk, crop)].gt(0.99).all()


def test_hand_computed_crop():
    preprocessing = Preprocessing(crop=(224, 224), resize=256)
    # 512 x 256: half the width is cut, 16 pixels above and below.
    boxes = [(144, 16, 368, 240), (0, 0, 144, 256), (100, 100, 200, 120)]
    found = boxes_at_input(boxes, (512, 256), preprocessing)
    assert found.tolist() == [[0, 0, 224, 224], [0, 84, 56, 104]]
    assert boxes_at_input([], (512, 256), preprocessing).shape == (0, 4)


def test_squashed_photos_lose_nothing():
    preprocessing = Preprocessing(crop=(32, 48), resize=64, mean=(0.5,) * 3, std=(0.5,) * 3)
    whole = squashed(preprocessing)
    assert (whole.mean, whole.std, whole.crop) == (preprocessing.mean, preprocessing.std, (32, 48))
    found = boxes_at_input([(0, 0, 100, 80), (50, 20, 100, 40)], (100, 80), whole)
    assert found.tolist() == [[0, 0, 48, 32], [24, 8, 48, 16]]
    photo = Image.fromarray(np.random.default_rng(0).integers(0, 256, (32, 48, 3), dtype=np.uint8))
    assert whole.view(photo).tobytes() == photo.tobytes()


@pytest.mark.real
def test_real_boxes(data_folder):
    photos = read_boxes(data_folder / "boxes" / "boxes.csv")
    assert len(photos) == 490
    assert sum(len(photo.boxes) for photo in photos) == 801
    assert {photo.size for photo in photos} == {(224, 224)}
    whole = squashed(Preprocessing(crop=(224, 224), resize=256))
    for photo in photos:
        found = boxes_at_input(photo.boxes, photo.size, whole)
        torch.testing.assert_close(found, torch.tensor(photo.boxes))
