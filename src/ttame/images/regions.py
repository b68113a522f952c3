"""Segmentation masks of objects: read from a CSV file, brought to the classifier's input."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image, ImageOps

from ttame.errors import InputError
from ttame.images.listfiles import (
    LABEL_COLUMNS,
    PATH_COLUMNS,
    cell,
    csv_rows,
    find_column,
    label_of,
)
from ttame.images.marks import marked_lines, upright_size

if TYPE_CHECKING:
    from torch import Tensor

    from ttame.images.preprocessing import Preprocessing

MASK_COLUMNS = ("mask", "region", "segmentation")

# By the mode of a mask's file: how many bands say where the object is; alpha does not.
_COLOURS = {"LA": 1, "PA": 1, "RGBA": 3, "La": 1, "RGBa": 3, "RGBX": 3}


@dataclass(frozen=True)
class MaskedPhoto:
    """A photo with the segmentation masks of one class.

    Attributes:
        path: Where the file is.
        size: Width and height of the upright photo, in pixels, which its masks have too.
        masks: Image files, at least one.
        label: 0-based class index, or None where it is not known.
    """

    path: Path
    size: tuple[int, int]
    masks: tuple[Path, ...]
    label: int | None = None


def read_regions(path: str | Path) -> list[MaskedPhoto]:
    """Read which photo has which mask from a CSV file; comma, semicolon or tab separates.

    One mask a line. The column ``file``, ``path``, ``image`` or ``filename`` gives the photo;
    ``mask``, ``region`` or ``segmentation`` an image file of the photo's size, both relative to the
    CSV file; ``label`` or ``imagenet_label``, if there, the class index (empty or negative: not
    known). Of photos and masks only the size is read.

    Args:
        path: The CSV file.

    Returns:
        One entry for each photo and label, in the order of the file.

    Raises:
        InputError: The file cannot be read, a column is missing, a photo or mask cannot be read, or
            they differ in size; the message gives the line.
    """
    path = Path(path).expanduser()
    found: dict[tuple[Path, tuple[int, int], int | None], list[Path]] = {}
    columns, rows = csv_rows(path)
    file, mask = find_column(columns, PATH_COLUMNS), find_column(columns, MASK_COLUMNS)
    label = find_column(columns, LABEL_COLUMNS)
    if file is None or mask is None:
        raise InputError(
            f"CSV {str(path)!r} has the columns {columns}; expected one of "
            f"{', '.join(PATH_COLUMNS)}, and one of {', '.join(MASK_COLUMNS)}"
        )
    for where, row, photo, size in marked_lines(path, rows, file):
        name = cell(row, mask)
        if not name:
            raise InputError(f"{where} names no mask; fill in or delete the line")
        region = path.parent / name
        width, height = upright_size(region, where, "mask")
        if (width, height) != size:
            raise InputError(
                f"{where}: expected a mask of the photo's size, {size[0]} x {size[1]} pixels, got "
                f"{str(region)!r} with {width} x {height}; check that it belongs to this photo"
            )
        found.setdefault((photo, size, label_of(cell(row, label), where)), []).append(region)
    if not found:
        raise InputError(f"CSV {str(path)!r} holds no mask; write one a line")
    return [
        MaskedPhoto(photo, size, tuple(masks), label)
        for (photo, size, label), masks in found.items()
    ]


def read_region(masks: tuple[Path, ...]) -> Tensor:
    """Read the pixels that are not zero in any of some masks of one size.

    Palettes are not looked up: an index other than 0 counts. Transparency counts for nothing.

    Args:
        masks: Image files, at least one.

    Returns:
        (H, W) boolean.

    Raises:
        InputError: One cannot be decoded, or is zero everywhere.
    """
    region = np.zeros((), dtype=bool)
    for mask in masks:
        try:
            with Image.open(mask) as image:
                values = np.asarray(ImageOps.exif_transpose(image))
                bands = _COLOURS.get(image.mode)
        except Exception as error:  # damaged pixels raise whatever the decoder stumbles on
            raise InputError(
                f"mask {str(mask)!r} cannot be read ({error}); save it again"
            ) from None
        marked = values[..., :bands] != 0 if values.ndim == 3 else values != 0
        marked = marked.any(axis=2) if marked.ndim == 3 else marked
        if not marked.any():
            raise InputError(
                f"mask {str(mask)!r} is zero everywhere; mark the object by other values, or "
                "delete the line"
            )
        region = region | marked
    return torch.from_numpy(region)


def region_at_input(region: Tensor, preprocessing: Preprocessing) -> Tensor:
    """Bring a region from a photo to the classifier's input, resized and cropped as the photo is.

    A pixel of the input is in the region if the photo's pixel under its centre is, as for boxes.

    Args:
        region: (h, w) boolean, of the photo's size.
        preprocessing: The way from the photo to the input.

    Returns:
        (H, W) boolean; False where the crop is larger than the photo. Regions smaller than a pixel
        of the input may be lost.

    Example:
        >>> from ttame.images.preprocessing import Preprocessing
        >>> region = torch.tensor([[True, True, False, False], [False, False, False, True]])
        >>> region_at_input(region, Preprocessing(crop=(2, 2), resize=None)).int().tolist()
        [[1, 0], [0, 1]]
    """
    factors, corner = preprocessing.placement(region.shape[1], region.shape[0])
    places = [
        ((torch.arange(side, dtype=torch.float64) + 0.5 + start) / factor).floor().long()
        for side, start, factor in zip(preprocessing.crop[::-1], corner, factors, strict=True)
    ]
    across, down = places
    inside = (down >= 0)[:, None] & (down < region.shape[0])[:, None]
    inside = inside & (across >= 0) & (across < region.shape[1])
    taken = region[down.clamp(0, region.shape[0] - 1)][:, across.clamp(0, region.shape[1] - 1)]
    return taken & inside
