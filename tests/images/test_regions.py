from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from ttame.errors import InputError
from ttame.images.boxes import Box, boxes_at_input, squashed
from ttame.images.preprocessing import Preprocessing
from ttame.images.regions import MaskedPhoto, read_region, read_regions, region_at_input
from ttame.metrics.localisation import box_region

SIZE = (40, 30)
BOX = (5, 2, 21, 12)


def rectangle(mode="L", value=255):
    values = np.zeros((SIZE[1], SIZE[0]), dtype=np.uint8)
    values[BOX[1] : BOX[3], BOX[0] : BOX[2]] = value
    return Image.fromarray(values).convert(mode) if mode != "P" else palette(values)


def palette(values):
    image = Image.fromarray(values, "L").convert("P")
    image.putdata(values.flatten().tolist())
    image.putpalette([255, 255, 255, *[0] * 765])  # index 0 is white, all others are black
    return image


@pytest.fixture
def folder(tmp_path):
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
    for name in ("a.png", "b.png"):
        Image.new("RGB", SIZE).save(tmp_path / "images" / name)
        rectangle().save(tmp_path / "masks" / name)
    Image.new("L", SIZE).save(tmp_path / "masks" / "empty.png")
    Image.new("L", (30, 40), 1).save(tmp_path / "masks" / "turned.png")
    (tmp_path / "masks" / "text.png").write_text("no image")
    return tmp_path


def written(folder, text):
    path = folder / "regions.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_masks_are_grouped_by_photo_and_label(folder):
    path = written(
        folder,
        "file,label,mask\n"
        "images/a.png,3,masks/a.png\n"
        "images/b.png,,masks/b.png\n\n"
        "images/a.png,3,masks/b.png\n"
        "images/a.png,4,masks/a.png\n",
    )
    a, b = folder / "images" / "a.png", folder / "images" / "b.png"
    one, two = folder / "masks" / "a.png", folder / "masks" / "b.png"
    assert read_regions(str(path)) == [
        MaskedPhoto(a, SIZE, (one, two), 3),
        MaskedPhoto(b, SIZE, (two,), None),
        MaskedPhoto(a, SIZE, (one,), 4),
    ]


@pytest.mark.parametrize("column", ["region", "segmentation"])
def test_other_columns_and_separators_are_understood(folder, column):
    path = written(folder, f"{column};imagenet_label;path\nmasks/a.png;2;images/a.png\n")
    (photo,) = read_regions(path)
    assert (photo.label, photo.masks) == (2, (folder / "masks" / "a.png",))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file,label\nimages/a.png,1\n", "expected one of file, .*, and one of mask, region"),
        ("file,mask\n", "holds no mask"),
        ("file,mask\nimages/a.png,\n", "line 2 names no mask"),
        ("file,mask\n,masks/a.png\n", "line 2 names no photo"),
        ("file,mask\nimages/c.png,masks/a.png\n", "line 2: photo .*c.png' cannot be read"),
        ("file,mask\nimages/a.png,masks/c.png\n", "line 2: mask .*c.png' cannot be read .* relat"),
        ("file,mask\nimages/a.png,masks/text.png\n", "line 2: mask .*text.png' cannot be read"),
        (
            "file,mask\nimages/a.png,masks/turned.png\n",
            "line 2: expected a mask of the photo's size, 40 x 30 pixels, got .* with 30 x 40",
        ),
        ("file,mask,label\nimages/a.png,masks/a.png,dog\n", "line 2: expected a class index"),
    ],
)
def test_mistakes_are_told_with_their_line(folder, text, message):
    with pytest.raises(InputError, match=message):
        read_regions(written(folder, text))


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "LA", "I;16"])
def test_every_pixel_that_is_not_zero_counts_and_alpha_does_not(tmp_path, mode):
    rectangle(mode, 255 if mode == "1" else 2).save(tmp_path / "mask.png")
    region = read_region((tmp_path / "mask.png",))
    assert region.dtype == torch.bool
    assert torch.equal(region, box_region(torch.tensor([BOX], dtype=torch.float32), SIZE[::-1]))


def test_several_masks_are_one_region(folder):
    other = Image.new("L", SIZE)
    other.putpixel((39, 29), 1)
    other.save(folder / "masks" / "other.png")
    region = read_region((folder / "masks" / "a.png", folder / "masks" / "other.png"))
    assert region.sum() == (BOX[2] - BOX[0]) * (BOX[3] - BOX[1]) + 1
    assert region[29, 39]


@pytest.mark.parametrize(
    ("name", "message"), [("empty", "zero everywhere"), ("text", "cannot be read")]
)
def test_masks_without_a_region_are_refused(folder, name, message):
    with pytest.raises(InputError, match=message):
        read_region((folder / "masks" / f"{name}.png",))


@pytest.mark.parametrize(
    "preprocessing",
    [
        squashed(Preprocessing(crop=(16, 23))),
        Preprocessing(crop=(16, 16), resize=20),
        Preprocessing(crop=(64, 64), resize=50),
    ],
    ids=["squashed", "cropped", "padded"],
)
@pytest.mark.parametrize("box", [BOX, (0, 0, 40, 30), (17, 11, 40, 12)])
def test_a_rectangle_comes_to_where_its_box_comes(preprocessing, box):
    region = box_region(torch.tensor([box], dtype=torch.float32), SIZE[::-1])
    found = region_at_input(region, preprocessing)
    moved = boxes_at_input([Box(*map(float, box))], SIZE, preprocessing)
    assert found.shape == preprocessing.crop
    assert torch.equal(found, box_region(moved, preprocessing.crop))
