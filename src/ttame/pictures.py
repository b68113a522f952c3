"""Pictures for people: a mask in colour over the photo, with a title and a colour bar."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from ttame.errors import InputError, unknown_name

if TYPE_CHECKING:
    from torch import Tensor

    Values = Tensor | NDArray[Any]
    Font = ImageFont.FreeTypeFont

# Lightness rises evenly with the mask, also for colour-blind eyes and on grey prints.
COLOUR_MAP = "inferno"
_SIDE = 448  # shortest side of the photo in a finished picture: crisp on a slide
_PAPER, _INK, _FAINT = (255, 255, 255), (26, 28, 32), (110, 114, 122)


def overlay(
    pixels: Values, mask: Values, alpha: float = 0.5, colour_map: str = COLOUR_MAP
) -> Image.Image:
    """Lay a mask in colour over a photo, at the photo's size.

    Args:
        pixels: What the classifier saw, (C, H, W) in [0, 1]; shown in grey where C is not 3.
        mask: (h, w) in [0, 1]; resized bilinearly to the photo.
        alpha: Opacity of the colours in [0, 1]; 0 shows the photo, 1 the mask alone.
        colour_map: Any of matplotlib's names.

    Returns:
        An RGB picture of W x H.

    Raises:
        InputError: A shape or ``alpha`` does not fit.
        UnknownNameError: There is no such colour map.

    Example:
        >>> import numpy as np
        >>> overlay(np.ones((3, 8, 6)), np.eye(2)).size
        (6, 8)
    """
    return _blend(_photo(pixels), _checked_mask(mask), alpha, colour_map)


def picture(
    pixels: Values,
    mask: Values,
    title: str = "",
    alpha: float = 0.5,
    colour_map: str = COLOUR_MAP,
) -> Image.Image:
    """Draw the overlay with a title above and a colour bar from 0 to 1 beside it.

    Small photos are enlarged to 448 pixels on their short side, so that text and mask stay crisp.

    Args:
        pixels: (C, H, W) in [0, 1]; shown in grey where C is not 3.
        mask: (h, w) in [0, 1].
        title: One line, such as the class and its probability; shortened where it is too long,
            keeping its last word.
        alpha: Opacity of the colours in [0, 1].
        colour_map: Any of matplotlib's names.

    Returns:
        An RGB picture.

    Raises:
        InputError: A shape or ``alpha`` does not fit.
        UnknownNameError: There is no such colour map.

    Example:
        >>> import numpy as np
        >>> min(picture(np.ones((3, 8, 8)), np.eye(2), "tench  97.1%").size) >= 448
        True
    """
    photo = _enlarged(_photo(pixels), _SIDE)
    body = _blend(photo, _checked_mask(mask), alpha, colour_map)
    unit = min(body.size) / _SIDE
    margin, gap, bar = round(16 * unit), round(14 * unit), round(16 * unit)
    text, small = _font(round(21 * unit), bold=True), _font(round(14 * unit))
    top = margin + (round(34 * unit) if title else 0)
    labels = ("1", "0.5", "0")
    label_width = max(round(small.getlength(label)) for label in labels)
    bar_left = margin + body.width + gap
    width = bar_left + bar + round(8 * unit) + label_width + margin
    sheet = Image.new("RGB", (width, top + body.height + margin), _PAPER)
    sheet.paste(body, (margin, top))
    sheet.paste(_bar((bar, body.height), colour_map), (bar_left, top))
    draw = ImageDraw.Draw(sheet)
    if title:
        line = _fitted(title, text, width - 2 * margin)
        draw.text((margin, round(margin + 24 * unit)), line, fill=_INK, font=text, anchor="ls")
    label_left = bar_left + bar + round(8 * unit)
    for label, anchor, y in zip(
        labels, ("lt", "lm", "lb"), (0, body.height // 2, body.height - 1), strict=True
    ):
        draw.text((label_left, top + y), label, fill=_FAINT, font=small, anchor=anchor)
    return sheet


def contact_sheet(
    rows: Sequence[Sequence[Image.Image]],
    titles: Sequence[Sequence[str]] = (),
    side: int = 224,
) -> Image.Image:
    """Arrange pictures in a grid, for example a photo and then its overlays in every row.

    Args:
        rows: Pictures of any size; rows may differ in length.
        titles: A short line above each picture, arranged as ``rows``; may be left out.
        side: Width and height of the square that each picture is fitted into, in pixels.

    Returns:
        An RGB picture.

    Raises:
        InputError: There are no pictures, or more titles than pictures.

    Example:
        >>> from PIL import Image
        >>> dot = Image.new("RGB", (10, 10))
        >>> contact_sheet([[dot, dot], [dot]], side=20).size
        (52, 52)
    """
    if side < 1 or not any(len(row) for row in rows):
        raise InputError("expected at least one picture and a positive side, got none")
    if len(titles) > len(rows) or any(
        len(line) > len(row) for line, row in zip(titles, rows, strict=False)
    ):
        raise InputError("expected at most one title per picture, got more titles than pictures")
    gap = max(4, side // 28)
    font = _font(max(11, side // 15))
    head = round(1.6 * font.size) if any(any(line) for line in titles) else 0
    columns = max(len(row) for row in rows)
    size = (gap + columns * (side + gap), gap + len(rows) * (head + side + gap))
    sheet = Image.new("RGB", size, _PAPER)
    draw = ImageDraw.Draw(sheet)
    for r, row in enumerate(rows):
        y = gap + r * (head + side + gap)
        line = titles[r] if r < len(titles) else ()
        for c, image in enumerate(row):
            x = gap + c * (side + gap)
            if c < len(line):
                draw.text((x, y), _fitted(line[c], font, side), fill=_INK, font=font)
            fitted = _fit_inside(image, side)
            offset = ((side - fitted.width) // 2, (side - fitted.height) // 2)
            sheet.paste(fitted, (x + offset[0], y + head + offset[1]))
    return sheet


def write_png(image: Image.Image, file: IO[bytes]) -> None:
    """Write a picture as PNG, in half of the default time for a few percent more bytes."""
    image.save(file, "PNG", compress_level=4)


def _array(values: Values) -> NDArray[np.float32]:
    if hasattr(values, "detach"):
        values = values.detach().cpu().float().numpy()
    array = np.asarray(values, dtype=np.float32)
    # A map that is not a number anywhere shows nothing there, rather than failing the picture.
    return np.clip(np.nan_to_num(array, nan=0.0), 0, 1)


def _photo(pixels: Values) -> Image.Image:
    array = _array(pixels)
    if array.ndim != 3 or 0 in array.shape:
        raise InputError(
            f"expected pixels of shape (C, H, W) in [0, 1], got {tuple(array.shape)}; one photo "
            "at a time"
        )
    if len(array) != 3:  # channels beyond colour have no colours: their mean shows the scene
        array = array.mean(axis=0, keepdims=True)
    array = np.broadcast_to(array, (3, *array.shape[1:])).transpose(1, 2, 0)
    return Image.fromarray(np.rint(array * 255).astype(np.uint8))


def _checked_mask(mask: Values) -> NDArray[np.float32]:
    array = _array(mask)
    if array.ndim != 2 or 0 in array.shape:
        raise InputError(f"expected a mask of shape (h, w) in [0, 1], got {tuple(array.shape)}")
    return array


def _blend(
    photo: Image.Image, mask: NDArray[np.float32], alpha: float, colour_map: str
) -> Image.Image:
    if not 0 <= alpha <= 1:
        raise InputError(f"expected an opacity alpha in [0, 1], got {alpha}")
    resized = Image.fromarray(mask).resize(photo.size, Image.Resampling.BILINEAR)
    return Image.blend(photo, _coloured(np.array(resized), colour_map), alpha)


def _coloured(mask: NDArray[np.float32], colour_map: str) -> Image.Image:
    from matplotlib import colormaps

    if colour_map not in colormaps:
        raise unknown_name("colour map", colour_map, list(colormaps))
    rgba = colormaps[colour_map](mask, bytes=True)
    return Image.fromarray(np.ascontiguousarray(rgba[..., :3]))


def _bar(size: tuple[int, int], colour_map: str) -> Image.Image:
    ramp = np.linspace(1, 0, size[1], dtype=np.float32)[:, None]
    return _coloured(np.repeat(ramp, size[0], axis=1), colour_map)


def _enlarged(photo: Image.Image, side: int) -> Image.Image:
    factor = side / min(photo.size)
    if factor <= 1:
        return photo
    size = (round(photo.width * factor), round(photo.height * factor))
    return photo.resize(size, Image.Resampling.BICUBIC)


def _fit_inside(image: Image.Image, side: int) -> Image.Image:
    factor = side / max(image.size)
    size = (max(1, round(image.width * factor)), max(1, round(image.height * factor)))
    image = image.convert("RGB")
    return image if size == image.size else image.resize(size, Image.Resampling.LANCZOS)


@lru_cache(maxsize=16)
def _font(size: int, bold: bool = False) -> Font:
    """Return DejaVu Sans, which comes with matplotlib and knows most alphabets."""
    import matplotlib

    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    file = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / name
    return ImageFont.truetype(str(file), max(6, size))


def _fitted(title: str, font: Font, width: int) -> str:
    """Return one line of at most ``width`` pixels; the last word (the probability) survives."""
    # Names may hold line breaks, and file names surrogates that no font can draw.
    line = "".join(char if char.isprintable() else " " for char in title).strip()
    if font.getlength(line) <= width:
        return line
    name, _, last = line.rpartition(" ")
    tail = f"…  {last}" if name and font.getlength(f"…  {last}") < width / 2 else "…"
    name = name.rstrip() if tail != "…" else line
    while name and font.getlength(name.rstrip() + tail) > width:
        name = name[:-1]
    return name.rstrip() + tail
