"""Boxes that people drew round objects: read from a CSV file, brought to the classifier's input."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import torch

from ttame.errors import InputError
from ttame.images.listfiles import (
    LABEL_COLUMNS,
    PATH_COLUMNS,
    cell,
    csv_rows,
    find_column,
    label_of,
)
from ttame.images.marks import marked_lines

if TYPE_CHECKING:
    from torch import Tensor

    from ttame.images.preprocessing import Preprocessing

_CORNERS = ("x0", "y0", "x1", "y1")
_OTHER_CORNERS = ("xmin", "ymin", "xmax", "ymax")
# Corners may be out by so many pixels, from rounding and from counting pixels from 1.
_SLACK = 1.0


class Box(NamedTuple):
    """A box in pixels: its edges, right and lower edge excluded."""

    x0: float
    y0: float
    x1: float
    y1: float


@dataclass(frozen=True)
class BoxedPhoto:
    """A photo with the boxes of one class.

    Attributes:
        path: Where the file is.
        size: Width and height of the upright photo, in pixels, on which the boxes are drawn.
        boxes: At least one.
        label: 0-based class index, or None where it is not known.
    """

    path: Path
    size: tuple[int, int]
    boxes: tuple[Box, ...]
    label: int | None = None


def read_boxes(path: str | Path) -> list[BoxedPhoto]:
    """Read boxes from a CSV file with a header; comma, semicolon or tab separates.

    One box a line. The column ``file``, ``path``, ``image`` or ``filename`` gives the photo,
    relative to the CSV file; ``x0, y0, x1, y1`` or ``xmin, ymin, xmax, ymax`` the box in pixels of
    the photo; ``label`` or ``imagenet_label``, if there, the class index (empty or negative: not
    known). Of the photos only the size is read.

    Args:
        path: The CSV file.

    Returns:
        One entry for each photo and label, in the order of the file. Boxes up to a pixel over the
        photo's edge are cut at it.

    Raises:
        InputError: The file cannot be read, a column is missing, a line is not a box inside its
            photo, or a photo cannot be read; the message gives the line.
    """
    path = Path(path).expanduser()
    found: dict[tuple[Path, tuple[int, int], int | None], list[Box]] = {}
    columns, rows = csv_rows(path)
    file, label, corners = _places(columns, path)
    for where, row, photo, size in marked_lines(path, rows, file):
        box = _box([cell(row, corner) for corner in corners], size, where)
        found.setdefault((photo, size, label_of(cell(row, label), where)), []).append(box)
    if not found:
        raise InputError(f"CSV {str(path)!r} holds no box; write one a line")
    return [
        BoxedPhoto(photo, size, tuple(boxes), label)
        for (photo, size, label), boxes in found.items()
    ]


def boxes_at_input(
    boxes: Sequence[Sequence[float]], size: tuple[int, int], preprocessing: Preprocessing
) -> Tensor:
    """Bring boxes from a photo to the classifier's input, resized and cropped as the photo is.

    Args:
        boxes: Corners x0, y0, x1, y1 in pixels of the photo.
        size: Width and height of the photo.
        preprocessing: The way from the photo to the input; see :func:`squashed` for photos whose
            borders must not be lost.

    Returns:
        (n, 4) float32 in pixels of the input, cut at the crop's border; boxes wholly outside of it
        are dropped, so n may be 0.

    Example:
        >>> from ttame.images.preprocessing import Preprocessing
        >>> preprocessing = Preprocessing(crop=(4, 4), resize=6)
        >>> boxes_at_input([(8, 4, 14, 12), (0, 0, 8, 12)], (24, 12), preprocessing)
        tensor([[0., 1., 3., 4.]])
    """
    (across, down), (left, top) = preprocessing.placement(*size)
    height, width = preprocessing.crop
    corners = torch.tensor([list(box) for box in boxes], dtype=torch.float64).view(-1, 4)
    scale = torch.tensor([across, down, across, down], dtype=torch.float64)
    corner = torch.tensor([left, top, left, top], dtype=torch.float64)
    limit = torch.tensor([width, height, width, height], dtype=torch.float64)
    moved = torch.minimum((corners * scale - corner).clamp(min=0), limit)
    inside = (moved[:, 2] > moved[:, 0]) & (moved[:, 3] > moved[:, 1])
    return moved[inside].float()


def squashed(preprocessing: Preprocessing) -> Preprocessing:
    """Return the same preprocessing with the whole photo squashed to the input, nothing cropped.

    For localisation: no box is cut off, and photos that were squashed to a square before they came
    to us are not cropped a second time. Mean, standard deviation and interpolation stay.

    Example:
        >>> from ttame.images.preprocessing import Preprocessing
        >>> squashed(Preprocessing(crop=(224, 224), resize=256)).placement(448, 224)
        ((0.5, 1.0), (0, 0))
    """
    return replace(preprocessing, resize=None)


def _places(columns: list[str], path: Path) -> tuple[int, int | None, list[int]]:
    """Columns of the photo, of the label, if there, and of the corners."""
    corners = _CORNERS if _CORNERS[0] in columns else _OTHER_CORNERS
    file = find_column(columns, PATH_COLUMNS)
    if file is None or any(name not in columns for name in corners):
        raise InputError(
            f"CSV {str(path)!r} has the columns {columns}; expected one of "
            f"{', '.join(PATH_COLUMNS)}, and {', '.join(_CORNERS)} or {', '.join(_OTHER_CORNERS)}"
        )
    return file, find_column(columns, LABEL_COLUMNS), [columns.index(name) for name in corners]


def _box(texts: list[str], size: tuple[int, int], where: str) -> Box:
    try:
        x0, y0, x1, y1 = (float(text) for text in texts)
    except ValueError:
        raise InputError(f"{where}: expected four numbers in pixels, got {texts}") from None
    width, height = size
    inside = min(x0, y0) >= -_SLACK and x1 <= width + _SLACK and y1 <= height + _SLACK
    box = Box(max(x0, 0.0), max(y0, 0.0), min(x1, float(width)), min(y1, float(height)))
    if not all(map(math.isfinite, box)) or not inside or box.x0 >= box.x1 or box.y0 >= box.y1:
        raise InputError(
            f"{where}: expected a box with x0 < x1 and y0 < y1 inside the photo of {width} x "
            f"{height} pixels, got {', '.join(texts)}"
        )
    return box
