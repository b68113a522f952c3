"""The set of pictures of two photos each, in which the class of either is explained."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import torch

from ttame.activation import probabilities
from ttame.benchmarking.choosing import PAIR
from ttame.benchmarking.halves import half_of, photo_seed
from ttame.benchmarking.plan import PAIRS, PhotoSet
from ttame.errors import InputError
from ttame.images.boxes import squashed
from ttame.images.dataset import PhotoDataset, Sample, loader
from ttame.images.listing import Photo
from ttame.images.pairs import beside
from ttame.metrics.case import Truth, normalised

if TYPE_CHECKING:
    from torch import Tensor

    from ttame.backbone.contract import Backbone
    from ttame.images.preprocessing import Preprocessing
    from ttame.metrics.measure import Measure

MOST_PAIRS = 100
"""Most pictures that are made; each is explained for two classes."""

SURE = 0.5
"""Least probability of the class that a photo of a pair is predicted with."""

_log = logging.getLogger(__name__)


class Seen(NamedTuple):
    """A photo of a pair to be: itself, its class, and the probabilities of all classes (K,)."""

    photo: Photo
    label: int
    p: Tensor


def pair_set(
    photos: PhotoSet,
    backbone: Backbone,
    taken: Sequence[Measure],
    seed: int,
    batch_size: int,
    most: int = MOST_PAIRS,
) -> PhotoSet | None:
    """Make the set of pictures of two photos, each of which is explained for both classes.

    A photo is put beside the first free one before it whose class is another one, both of the same
    half, both surely predicted, and neither class predicted on the other photo.

    Args:
        photos: The run's photos, in its order; they are classified until there are enough pairs.
        backbone: The classifier.
        taken: All measures of the run; those of pairs are taken on this set.
        seed: Of the run.
        batch_size: Photos per forward pass.
        most: Most pictures.

    Returns:
        The set, two entries for each picture; None where no two photos make a pair.
    """
    entries: list[tuple[Photo, Truth]] = []
    for number, (first, second) in enumerate(_pairs(_seen(photos, backbone, batch_size), most)):
        dim = -1 - number % 2
        size = backbone.preprocessing.crop
        picture = partial(_picture, (first.photo, second.photo), photos.preprocessing, dim)
        for place, (own, other) in enumerate([(first, second), (second, first)]):
            # The half, the seed and the order go by the name of the photo that is explained.
            path = Path(f"beside {other.photo.path.name}", own.photo.path.name)
            entries.append((Photo(path, own.label, picture), _half(size, dim, place)))
    if not entries:
        _log.warning(
            "no pictures of two photos: there are no two that are predicted as different classes "
            "with at least %g %% each",
            100 * SURE,
        )
        return None
    made = [photo for photo, _ in entries]
    return PhotoSet(
        name=PAIRS,
        photos=tuple(made),
        seeds=tuple(photo_seed(seed, photo.path.name) for photo in made),
        preprocessing=squashed(backbone.preprocessing),  # made at the input's size already
        measures=tuple(item for item in taken if PAIR & set(item.needs)),
        classes=tuple(photo.label for photo in made),
        truth=tuple(truth for _, truth in entries),
    )


def _seen(photos: PhotoSet, backbone: Backbone, batch_size: int) -> Iterator[Seen]:
    """Yield the photos that are surely predicted."""
    dataset = PhotoDataset(photos.photos, photos.preprocessing)
    device = next(backbone.parameters(), torch.zeros(0)).device
    for batch in loader(dataset, batch_size=batch_size):
        if not len(batch):
            continue
        with torch.inference_mode():
            logits = backbone.logits(normalised(backbone, batch.pixels.to(device)))
            p = probabilities(logits.double(), backbone.activation).cpu()
        for index, row in zip(batch.indices.tolist(), p, strict=True):
            if row.max() >= SURE:
                yield Seen(photos.photos[index], int(row.argmax()), row)


def _pairs(photos: Iterator[Seen], most: int) -> Iterator[tuple[Seen, Seen]]:
    free: list[Seen] = []
    for photo in photos:
        place = next((i for i, other in enumerate(free) if _apart(other, photo)), None)
        if place is None:
            free.append(photo)
            continue
        yield free.pop(place), photo
        most -= 1
        if most == 0:
            return


def _apart(first: Seen, second: Seen) -> bool:
    same_half = half_of(first.photo.path.name) == half_of(second.photo.path.name)
    crossed = max(float(first.p[second.label]), float(second.p[first.label]))
    return same_half and first.label != second.label and crossed < SURE


def _picture(photos: tuple[Photo, Photo], preprocessing: Preprocessing, dim: int) -> Tensor:
    """Read two photos and put them into one picture, pixels (C, H, W) in [0, 1]."""
    dataset = PhotoDataset(photos, preprocessing)
    views = []
    for place in range(2):
        part = dataset[place]
        if not isinstance(part, Sample):
            raise InputError(part.message)
        views.append(part.pixels)
    return beside(views[0], views[1], dim)


def _half(size: tuple[int, int], dim: int, place: int) -> Truth:
    """Return the first or the second half of a picture, as a box."""
    height, width = size
    cut = size[dim] // 2
    edges = [(0, cut), (cut, size[dim])][place]
    x, y = (edges, (0, height)) if dim == -1 else ((0, width), edges)
    return Truth(torch.tensor([[x[0], y[0], x[1], y[1]]], dtype=torch.float32))
