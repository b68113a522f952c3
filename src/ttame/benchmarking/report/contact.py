"""The contact sheet: photos beside every method's map, all in the same colours and scale."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import torch
from PIL import Image

from ttame.activation import probabilities
from ttame.benchmarking.report.markup import DASH
from ttame.errors import InputError, first_line
from ttame.metrics.case import normalised
from ttame.normalisation import without_nan
from ttame.pictures import contact_sheet as picture_grid
from ttame.pictures import overlay

if TYPE_CHECKING:
    from torch import Tensor

    from ttame.backbone.contract import Backbone
    from ttame.methods.registry import Method

ALPHA = 0.6
SIDE = 160  # pixels: a sheet of 8 photos and 26 methods stays near 1 MB


class Cell(NamedTuple):
    """One method's map of one photo.

    Attributes:
        title: Of the method.
        image: The map in colour over the photo, or None where the method gave none.
        reason: Why it gave none.
    """

    title: str
    image: Image.Image | None
    reason: str = ""


class Row(NamedTuple):
    """One photo and its maps.

    Attributes:
        title: What is explained, for example the class and its probability.
        photo: What the classifier saw.
        cells: One per method.
        note: Why the photo is shown; may be empty.
    """

    title: str
    photo: Image.Image
    cells: tuple[Cell, ...]
    note: str = ""


@dataclass(frozen=True)
class Sheet:
    """Photos and maps for the report.

    Attributes:
        rows: One per photo, the same methods in each.
    """

    rows: tuple[Row, ...]

    def picture(self, side: int = SIDE) -> Image.Image:
        """Return the sheet as one picture, a line per photo; a missing map is a dash."""
        blank = Image.new("RGB", (side, side), (236, 237, 240))
        rows = [
            [row.photo, *(blank if cell.image is None else cell.image for cell in row.cells)]
            for row in self.rows
        ]
        titles = [
            [row.title, *(f"{cell.title}{'' if cell.image else f'  {DASH}'}" for cell in row.cells)]
            for row in self.rows
        ]
        return picture_grid(rows, titles, side)


def contact_sheet(
    backbone: Backbone,
    methods: Sequence[Method],
    photos: Tensor,
    classes: Tensor,
    titles: Sequence[str] | None = None,
    notes: Sequence[str] | None = None,
    each: Callable[[], object] | None = None,
) -> Sheet:
    """Call every method again on a few photos, and lay its masks over them.

    Masks are what the measures see: each map normalised in the method's way and
    resized to the photo. A method that fails on a photo leaves its cell empty, with the reason: no
    picture is worth the loss of a finished benchmark.

    Args:
        backbone: The classifier.
        methods: In the order of the columns.
        photos: (N, C, H, W) in [0, 1], at the classifier's input size.
        classes: (N,) explained class indices.
        titles: One line per photo; None takes class name and probability.
        notes: Why each photo is shown; None says nothing.
        each: Called after every map.

    Returns:
        N rows of one cell per method.

    Raises:
        InputError: The numbers of photos, classes, titles or notes differ.
    """
    count = len(photos)
    if classes.shape != (count,):
        raise InputError(
            f"expected {count} classes for {count} photos, got shape {tuple(classes.shape)}"
        )
    if titles is None:
        titles = _titles(backbone, photos, classes)
    notes = [""] * count if notes is None else notes
    if len(titles) != count or len(notes) != count:
        raise InputError(
            f"expected {count} titles and notes for {count} photos, got {len(titles)} and "
            f"{len(notes)}"
        )
    rows = []
    for index in range(count):
        photo, wanted = photos[index : index + 1], classes[index : index + 1]
        cells = []
        for method in methods:
            cells.append(_cell(backbone, method, photo, wanted))
            if each is not None:
                each()
        plain = _small(overlay(photo[0], torch.zeros(1, 1), alpha=0))
        rows.append(Row(titles[index], plain, tuple(cells), notes[index]))
    return Sheet(tuple(rows))


def jpeg(image: Image.Image) -> bytes:
    """Return a picture as JPEG, for the page."""
    buffer = io.BytesIO()
    image.convert("RGB").save(buffer, "JPEG", quality=82, optimize=True)
    return buffer.getvalue()


def _cell(backbone: Backbone, method: Method, photo: Tensor, wanted: Tensor) -> Cell:
    try:
        maps = method(backbone, normalised(backbone, photo), wanted[:, None])[:, 0]
        with torch.inference_mode():
            maps, replaced = without_nan(maps)
            mask = method.to_masks(maps, photo)[0]
    except Exception as error:
        # Any: methods may come from other packages, and the scores are there already.
        return Cell(method.title, None, f"{type(error).__name__}: {first_line(error)}")
    if bool(replaced[0]):
        return Cell(method.title, None, "the map holds NaN")
    return Cell(method.title, _small(overlay(photo[0], mask, ALPHA)))


def _small(image: Image.Image) -> Image.Image:
    factor = SIDE / max(image.size)
    if factor >= 1:
        return image
    size = (max(1, round(image.width * factor)), max(1, round(image.height * factor)))
    return image.resize(size, Image.Resampling.LANCZOS)


def _titles(backbone: Backbone, photos: Tensor, classes: Tensor) -> list[str]:
    with torch.inference_mode():
        logits = backbone.logits(normalised(backbone, photos)).double()
        p = probabilities(logits, backbone.activation)
    names = backbone.class_names
    return [
        f"{names[index] if names else f'class {index}'}  {float(row[index]):.1%}"
        for index, row in zip(classes.tolist(), p, strict=True)
    ]
