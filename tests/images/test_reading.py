from __future__ import annotations

import io
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ttame.errors import ImageError, InputError
from ttame.images import reading
from ttame.images.reading import as_photo, read_image


def saved(image: Image.Image, path: Path, **options: object) -> Path:
    image.save(path, **options)
    return path


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds almost no pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = zlib.compress(b"\0" * 64)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    )


def colour(photo: Image.Image, x: int = 0, y: int = 0) -> tuple[int, ...]:
    assert photo.mode == "RGB"
    return photo.getpixel((x, y))


@pytest.mark.parametrize("ending", ["png", "tif"])
@pytest.mark.parametrize(("value", "grey"), [(0, 0), (257, 1), (32768, 128), (65535, 255)])
def test_16_bit_grey_is_scaled_by_its_full_range(tmp_path, ending, value, grey):
    image = Image.fromarray(np.full((3, 4), value, dtype=np.uint16))
    assert colour(read_image(saved(image, tmp_path / f"a.{ending}"))) == (grey,) * 3


def test_32_bit_integers_are_scaled_as_16_bit(tmp_path):
    image = Image.fromarray(np.full((3, 4), 32768, dtype=np.int32))
    assert image.mode == "I"
    assert colour(read_image(saved(image, tmp_path / "a.tif"))) == (128,) * 3
    assert colour(as_photo(image)) == (128,) * 3


def test_big_endian_16_bit_tiff(tmp_path):
    image = Image.fromarray(np.full((3, 4), 32768, dtype=">u2"))
    assert image.mode == "I;16B"
    assert colour(read_image(saved(image, tmp_path / "a.tif"))) == (128,) * 3


def test_integers_beyond_16_bit_are_refused(tmp_path):
    path = saved(Image.fromarray(np.array([[0, 70000]], dtype=np.int32)), tmp_path / "a.tif")
    with pytest.raises(ImageError, match=r"a\.tif.*\[0, 70000\].*8- or 16-bit"):
        read_image(path)


def test_float_tiff_is_taken_as_0_to_1(tmp_path):
    image = Image.fromarray(np.array([[0.0, 0.5, 1.0]], dtype=np.float32))
    photo = read_image(saved(image, tmp_path / "a.tif"))
    assert [colour(photo, x)[0] for x in range(3)] == [0, 128, 255]


@pytest.mark.parametrize("bad", [200.0, -0.5, np.nan, np.inf])
def test_float_tiff_outside_0_to_1_is_refused(tmp_path, bad):
    path = saved(Image.fromarray(np.array([[0, bad]], dtype=np.float32)), tmp_path / "a.tif")
    with pytest.raises(ImageError, match=r"a\.tif.*\[0, 1\].*divide"):
        read_image(path)


def test_one_bit(tmp_path):
    image = Image.new("1", (2, 1), 0)
    image.putpixel((1, 0), 1)
    photo = read_image(saved(image, tmp_path / "a.png"))
    assert (colour(photo, 0), colour(photo, 1)) == ((0, 0, 0), (255, 255, 255))


@pytest.mark.parametrize("ending", ["tif", "jpg"])
def test_cmyk_red(tmp_path, ending):
    image = Image.new("CMYK", (8, 8), (0, 255, 255, 0))
    red, green, blue = colour(read_image(saved(image, tmp_path / f"a.{ending}")))
    assert red > 250
    assert max(green, blue) < 5


def test_palette(tmp_path):
    image = Image.new("P", (2, 1), 0)
    image.putpalette([10, 20, 30, 200, 100, 0])
    image.putpixel((1, 0), 1)
    photo = read_image(saved(image, tmp_path / "a.png"))
    assert (colour(photo, 0), colour(photo, 1)) == ((10, 20, 30), (200, 100, 0))


@pytest.mark.parametrize("ending", ["png", "gif"])
def test_transparent_palette_entry_becomes_white(tmp_path, ending):
    image = Image.new("P", (2, 1), 0)
    image.putpalette([10, 20, 30, 200, 100, 0])
    image.putpixel((1, 0), 1)
    photo = read_image(saved(image, tmp_path / f"a.{ending}", transparency=0))
    assert (colour(photo, 0), colour(photo, 1)) == ((255, 255, 255), (200, 100, 0))


def test_transparent_colour_key_becomes_white(tmp_path):
    image = Image.new("RGB", (2, 1), (1, 2, 3))
    image.putpixel((1, 0), (9, 9, 9))
    photo = read_image(saved(image, tmp_path / "a.png", transparency=(1, 2, 3)))
    assert (colour(photo, 0), colour(photo, 1)) == ((255, 255, 255), (9, 9, 9))


@pytest.mark.parametrize(
    ("mode", "pixel", "expected"),
    [
        ("RGBA", (255, 0, 0, 255), (255, 0, 0)),
        ("RGBA", (255, 0, 0, 0), (255, 255, 255)),
        ("RGBA", (0, 0, 0, 51), (204, 204, 204)),
        ("LA", (100, 255), (100, 100, 100)),
        ("LA", (0, 51), (204, 204, 204)),
        ("L", 77, (77, 77, 77)),
    ],
)
def test_alpha_is_composited_on_white(tmp_path, mode, pixel, expected):
    assert colour(read_image(saved(Image.new(mode, (2, 2), pixel), tmp_path / "a.png"))) == expected


def test_premultiplied_alpha_and_hsv_and_padded_modes():
    assert colour(as_photo(Image.new("RGBa", (1, 1), (0, 0, 0, 51)))) == (204, 204, 204)
    assert colour(as_photo(Image.new("HSV", (1, 1), (0, 255, 255)))) == (255, 0, 0)
    assert colour(as_photo(Image.new("RGBX", (1, 1), (1, 2, 3, 4)))) == (1, 2, 3)


def test_ycbcr_tiff(tmp_path):
    image = Image.new("RGB", (8, 8), (200, 50, 20)).convert("YCbCr")
    photo = read_image(saved(image, tmp_path / "a.tif"))
    np.testing.assert_allclose(colour(photo), (200, 50, 20), atol=3)


def test_lab_tiff(tmp_path):
    image = Image.new("LAB", (2, 2), (128, 128, 128))  # L* = 50, a* = b* = 0: sRGB 119
    photo = read_image(saved(image, tmp_path / "a.tif"))
    np.testing.assert_allclose(colour(photo), (119, 119, 119), atol=3)


def test_exif_orientation_6_turns_the_photo_upright(tmp_path):
    image = Image.new("RGB", (40, 24), "blue")
    image.paste("red", (0, 0, 8, 8))  # the stored top left is shown at the top right
    exif = Image.Exif()
    exif[0x0112] = 6
    path = saved(image, tmp_path / "a.jpg", exif=exif, quality=95)
    for photo in (read_image(path), as_photo(Image.open(path))):
        assert photo.size == (24, 40)
        assert colour(photo, 21, 2)[0] > 200
        assert colour(photo, 2, 2)[2] > 200


def test_damaged_exif_is_ignored(tmp_path):
    path = saved(
        Image.new("RGB", (8, 8), "white"), tmp_path / "a.jpg", exif=b"Exif\0\0II*\0\xff\xff\xff"
    )
    assert colour(read_image(path)) == (255, 255, 255)


@pytest.mark.parametrize("ending", ["gif", "webp", "png", "tif"])
def test_first_frame_of_an_animation(tmp_path, ending):
    first, second = Image.new("RGB", (8, 8), "red"), Image.new("RGB", (8, 8), "blue")
    path = saved(first, tmp_path / f"a.{ending}", save_all=True, append_images=[second])
    red, _, blue = colour(read_image(path))
    assert red > 240
    assert blue < 15


@pytest.mark.parametrize("ending", ["bmp", "ppm", "webp"])
def test_other_formats(tmp_path, ending):
    path = saved(Image.new("RGB", (16, 16), (10, 200, 30)), tmp_path / f"a.{ending}")
    np.testing.assert_allclose(colour(read_image(path)), (10, 200, 30), atol=6)


def test_str_bytes_and_wrong_ending(tmp_path):
    path = saved(Image.new("RGB", (2, 2), (1, 2, 3)), tmp_path / "a b ü.jpg", format="PNG")
    assert colour(read_image(str(path))) == (1, 2, 3)
    assert colour(as_photo(path.read_bytes())) == (1, 2, 3)


@pytest.fixture
def noise(tmp_path) -> Path:
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    return saved(Image.fromarray(pixels), tmp_path / "whole.jpg")


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"<html>not found</html>", "not an image"),
        (b"\xff\xd8\xff", "not an image|damaged"),
        (b"\x89PNG\r\n\x1a\n", "not an image|damaged"),
        (b"\x89PNG\r\n\x1a\n" + bytes(40), "not an image|damaged"),
        (b"GIF89a\x01\x00", "not an image|damaged"),
        (b"II*\0" + b"\xff" * 30, "not an image|damaged"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not an image"),
        (png_header(16, 16), "truncated or damaged"),
    ],
)
def test_bad_files_give_one_clear_line(tmp_path, content, message):
    path = tmp_path / "bad.jpg"
    path.write_bytes(content)
    with pytest.raises(ImageError, match=message) as caught:
        read_image(path)
    assert "bad.jpg" in str(caught.value)
    assert "\n" not in str(caught.value)
    with pytest.raises(ImageError, match=message):
        read_image(content)


@pytest.mark.parametrize("ending", ["jpg", "png", "gif", "webp", "tif", "bmp"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_truncated_files(tmp_path, noise, ending, share):
    path = saved(Image.open(noise), tmp_path / f"whole.{ending}")
    content = path.read_bytes()
    cut = tmp_path / f"cut.{ending}"
    cut.write_bytes(content[: int(share * len(content))])
    with pytest.raises(ImageError, match=rf"cut\.{ending}"):
        read_image(cut)


def test_truncated_pillow_image(tmp_path, noise):
    cut = tmp_path / "cut.jpg"
    cut.write_bytes(noise.read_bytes()[:1500])
    with pytest.raises(ImageError, match=r"cut\.jpg.*truncated"):
        as_photo(Image.open(cut))


@pytest.mark.parametrize("name", ["missing.jpg", "x" * 400 + ".jpg", "a\0b.jpg", "two\nlines.jpg"])
def test_missing_files(tmp_path, name):
    with pytest.raises(ImageError, match="check the path") as caught:
        read_image(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_folders_and_special_files(tmp_path):
    with pytest.raises(ImageError, match="is a folder"):
        read_image(tmp_path)
    os.mkfifo(tmp_path / "pipe.jpg")
    with pytest.raises(ImageError, match="not a regular file"):
        read_image(tmp_path / "pipe.jpg")


def test_circular_links(tmp_path):
    (tmp_path / "a.jpg").symlink_to(tmp_path / "a.jpg")
    with pytest.raises(ImageError, match="cannot be opened"):
        read_image(tmp_path / "a.jpg")


def test_permission_denied(noise, monkeypatch):
    def refuse(*args: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)  # file modes do not stop the tests' super-user
    with pytest.raises(ImageError, match=r"whole\.jpg.*permissions"):
        read_image(noise)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize(("width", "height"), [(100_000, 100_000), (20_000, 8_948), (2**31 - 1, 9)])
def test_bombs_are_refused_before_decoding(tmp_path, monkeypatch, width, height):
    def never(*args: object) -> None:
        raise AssertionError("decoded")

    monkeypatch.setattr(reading, "to_rgb", never)
    limit = Image.MAX_IMAGE_PIXELS
    path = tmp_path / "bomb.png"
    path.write_bytes(png_header(width, height))
    with pytest.raises(ImageError, match=r"bomb\.png.*smaller"):
        read_image(path)
    assert limit == Image.MAX_IMAGE_PIXELS


def test_own_limit(noise):
    assert read_image(noise, max_pixels=64 * 64).size == (64, 64)
    with pytest.raises(ImageError, match="64 x 64 pixels, more than the limit of 4095"):
        read_image(noise, max_pixels=64 * 64 - 1)


def test_large_jpegs_are_read_at_a_fraction_only_when_asked(tmp_path):
    path = saved(Image.new("RGB", (1600, 1200), (200, 100, 50)), tmp_path / "large.jpg")
    assert read_image(path).size == (1600, 1200)
    assert read_image(path, enough=150).size == (400, 300)
    assert read_image(path, enough=601).size == (1600, 1200)
    np.testing.assert_allclose(colour(read_image(path, enough=150)), (200, 100, 50), atol=2)


@pytest.mark.parametrize(
    ("dtype", "values"),
    [
        (np.uint8, [0, 51, 255]),
        (np.uint16, [0, 13107, 65535]),
        (np.float16, [0, 0.2, 1]),
        (np.float32, [-1e-4, 0.2, 1.0005]),
        (np.float64, [0, 0.2, 1]),
    ],
)
def test_arrays_and_tensors_of_every_kind(dtype, values):
    row = np.array([values], dtype=dtype)
    rgb = np.stack([row] * 3, axis=2)
    opaque = np.concatenate([rgb, np.full_like(row, max(values))[..., None]], axis=2)
    arrays = [row, row[..., None], rgb, opaque]
    tensors = [torch.from_numpy(array.transpose(2, 0, 1).copy()) for array in arrays[1:]]
    for photo in map(as_photo, arrays + tensors):
        assert photo.size == (3, 1)
        assert [colour(photo, x) for x in range(3)] == [(0,) * 3, (51,) * 3, (255,) * 3]


def test_array_channels_keep_their_order_and_alpha():
    array = np.zeros((2, 3, 4), dtype=np.uint8)
    array[0, 1] = (10, 20, 30, 255)
    photo = as_photo(array)
    assert colour(photo, 1, 0) == (10, 20, 30)
    assert colour(photo, 0, 0) == (255, 255, 255)
    flipped = as_photo(torch.from_numpy(array[..., :3].copy()).permute(2, 0, 1).flip(2))
    assert colour(flipped, 1, 0) == (10, 20, 30)


def test_tensors_with_gradients_and_in_bfloat16():
    tensor = torch.full((3, 2, 2), 0.5, dtype=torch.bfloat16, requires_grad=True)
    assert colour(as_photo(tensor)) == (128, 128, 128)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (np.zeros(3), r"\(H, W\) or \(H, W, C\).*\(3,\)"),
        (np.zeros((1, 3, 4, 4)), r"\(1, 3, 4, 4\).*one by one"),
        (np.zeros((3, 4, 5)), r"\(3, 4, 5\).*reorder"),
        (np.zeros((0, 4)), r"\(0, 4, 1\)|\(0, 4\)"),
        (np.zeros((2, 2), dtype=np.int64), "int64.*uint8"),
        (np.zeros((2, 2), dtype=bool), "bool"),
        (np.full((2, 2), 255.0), "divide"),
        (np.full((2, 2), np.nan), "nan"),
        (torch.zeros(2, 2), r"\(C, H, W\).*\(2, 2\)"),
        (torch.zeros(2, 3, 4, 4), "one by one"),
        (torch.zeros(5, 4, 3), "reorder"),
        (torch.full((3, 2, 2), -2.1), "normalised"),
        (torch.zeros(3, 2, 2, dtype=torch.int64), "int64"),
        (torch.zeros(3, 0, 2), "empty"),
        (None, "NoneType"),
        (7, "int"),
        (["a.jpg"], "list"),
    ],
)
def test_what_is_no_photo_is_refused(bad, message):
    with pytest.raises(InputError, match=message):
        as_photo(bad)


def test_the_given_image_is_not_changed():
    image = Image.new("LA", (2, 2), (10, 20))
    as_photo(image)
    assert (image.mode, image.getpixel((0, 0))) == ("LA", (10, 20))
    buffer = io.BytesIO()
    Image.new("RGB", (2, 2), (5, 6, 7)).save(buffer, "PNG")
    opened = Image.open(buffer)
    assert colour(as_photo(opened)) == (5, 6, 7)
