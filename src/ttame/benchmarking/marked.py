"""The set of photos on which people marked objects, by boxes, by segmentation masks, or both."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import torch

from ttame.benchmarking.choosing import TRUTH
from ttame.benchmarking.halves import arrange, seeds_of
from ttame.benchmarking.plan import MARKED, PhotoSet
from ttame.errors import InputError
from ttame.images.boxes import BoxedPhoto, boxes_at_input, read_boxes, squashed
from ttame.images.listing import Photo
from ttame.images.regions import MaskedPhoto, read_region, read_regions, region_at_input
from ttame.metrics.case import Truth

if TYPE_CHECKING:
    from ttame.backbone.contract import Backbone
    from ttame.images.preprocessing import Preprocessing
    from ttame.metrics.measure import Measure


class _Kind(NamedTuple):
    """One way to mark: its words, who needs it, and whether a photo has it."""

    title: str
    need: str
    measure: str
    marks: Callable[[Truth], bool]


_KINDS = (
    _Kind("boxes", "truth", "localisation", lambda truth: len(truth.boxes) > 0),
    _Kind("segmentation masks", "region", "segmentation", lambda truth: truth.region is not None),
)


def marked_set(
    boxes: str | Path | None,
    regions: str | Path | None,
    backbone: Backbone,
    taken: Sequence[Measure],
    half: str,
    seed: int,
    images: int | None,
) -> PhotoSet:
    """Make the set of photos with marked objects, of which the marked class is explained.

    The photos are squashed to the classifier's input, so that no object is cropped away. A photo
    that has boxes and a segmentation mask of the same label is one photo.

    Args:
        boxes: A CSV file of boxes, or None.
        regions: A CSV file of segmentation masks, or None.
        backbone: The classifier.
        taken: All measures of the run; those of marked objects are taken on this set.
        half: See :func:`ttame.benchmarking.halves.arrange`.
        seed: Of the order.
        images: How many photos; None takes all.

    Raises:
        InputError: A file or mask is wrong, a label is no class of the classifier, no measure
            needs what is marked, or none of the photos drawn is marked so.
    """
    given = [kind for kind, file in zip(_KINDS, (boxes, regions), strict=True) if file is not None]
    for kind in given:
        if not any(kind.need in item.needs for item in taken):
            raise InputError(
                f"{kind.title} were given, but no measure needs them; add {kind.measure}"
            )
    found = _marks(boxes, regions)
    for photo in found:
        if photo.label is not None and photo.label >= backbone.num_classes:
            raise InputError(
                f"the label {photo.label} of {photo.path} is no class of {backbone.identity.name}, "
                f"which has {backbone.num_classes}"
            )
    photos = arrange(list(found), half, seed, images)
    preprocessing = squashed(backbone.preprocessing)
    # Masks are decoded of the photos that take part only.
    truth = tuple(found[photo].truth(preprocessing) for photo in photos)
    for kind in given:
        if not any(kind.marks(item) for item in truth):
            raise InputError(
                f"none of the {len(photos)} photos drawn has {kind.title}; draw more of them "
                "(images, half), or mark the same photos in both files"
            )
    return PhotoSet(
        name=MARKED,
        photos=tuple(photos),
        seeds=seeds_of(photos, found, seed),
        preprocessing=preprocessing,
        measures=tuple(item for item in taken if TRUTH & set(item.needs)),
        classes=tuple(photo.label for photo in photos),
        truth=truth,
    )


@dataclass(frozen=True)
class _Marks:
    """What is marked on one photo for one label."""

    boxes: BoxedPhoto | None = None
    region: MaskedPhoto | None = None

    def truth(self, preprocessing: Preprocessing) -> Truth:
        boxes, region = torch.zeros(0, 4), None
        if self.boxes is not None:
            boxes = boxes_at_input(self.boxes.boxes, self.boxes.size, preprocessing)
        if self.region is not None:
            region = region_at_input(read_region(self.region.masks), preprocessing)
        return Truth(boxes, region)


def _marks(boxes: str | Path | None, regions: str | Path | None) -> Mapping[Photo, _Marks]:
    """Join both files by photo and label, whatever folder their paths are relative to."""
    found: dict[tuple[Path, int | None], tuple[Photo, _Marks]] = {}
    for boxed in [] if boxes is None else read_boxes(boxes):
        key = boxed.path.resolve(), boxed.label
        found.setdefault(key, (Photo(boxed.path, boxed.label), _Marks(boxes=boxed)))
    for masked in [] if regions is None else read_regions(regions):
        key = masked.path.resolve(), masked.label
        photo, marks = found.get(key, (Photo(masked.path, masked.label), _Marks()))
        found[key] = photo, replace(marks, region=masked)
    return dict(found.values())
