"""CSV files of what people marked on photos: the lines that boxes and segmentation masks share."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from ttame.errors import InputError
from ttame.images.listfiles import cell


class MarkedLine(NamedTuple):
    """A line of such a file.

    Attributes:
        where: File and line, for messages.
        row: Its cells.
        photo: The photo that it names.
        size: Width and height of the upright photo, in pixels.
    """

    where: str
    row: list[str]
    photo: Path
    size: tuple[int, int]


def marked_lines(
    path: Path, rows: Iterable[tuple[int, list[str]]], file: int | None
) -> Iterator[MarkedLine]:
    """Read which photo each line is about, and every photo's size once.

    Args:
        path: The CSV file; photos are named relative to its folder.
        rows: Number and cells of each line, see :func:`ttame.images.listfiles.csv_rows`.
        file: The column of the photo.

    Raises:
        InputError: A line names no photo, or one that cannot be read.
    """
    sizes: dict[Path, tuple[int, int]] = {}
    for line, row in rows:
        where = f"CSV {str(path)!r}, line {line}"
        name = cell(row, file)
        if not name:
            raise InputError(f"{where} names no photo; fill in or delete the line")
        photo = path.parent / name
        if photo not in sizes:
            sizes[photo] = upright_size(photo, where)
        yield MarkedLine(where, row, photo, sizes[photo])


def upright_size(path: Path, where: str, kind: str = "photo") -> tuple[int, int]:
    """Read width and height of an upright photo, or of a mask, without decoding it.

    Args:
        path: The image file.
        where: File and line that name it, for the message.
        kind: What it is, for the message.

    Raises:
        InputError: It cannot be read.
    """
    try:
        with Image.open(path) as image:
            # Only the header has been read: swapping the sides of an empty picture is free.
            turned = image.getexif().get(0x0112, 1) in (5, 6, 7, 8)
            return (image.height, image.width) if turned else image.size
    except Exception as error:  # damaged headers raise whatever the format's reader stumbles on
        raise InputError(
            f"{where}: {kind} {str(path)!r} cannot be read ({error}); write paths relative to the "
            "CSV file's own folder"
        ) from None
