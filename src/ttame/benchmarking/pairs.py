"""The set of pictures of two photos each, in which the class of one of them is explained."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import torch

from ttame.activation import probabilities
from ttame.benchmarking.choosing import PAIR
from ttame.benchmarking.halves import half_of, seeds_of
from ttame.benchmarking.plan import PAIRS, PhotoSet
from ttame.errors import ImageError, InputError
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
"""Most pictures that are made."""

MOST_PHOTOS = 1000
"""Most photos, the first of the run, that are looked at for pairs."""

SURE = 0.5
"""Least probability of the class that a photo of a pair is predicted with."""

NO_PAIRS = "no two photos of one half are predicted as different classes, each with at least 50 %"


class Seen(NamedTuple):
    """A photo of a pair to be: itself, its half and class, and all classes' probabilities (K,)."""

    photo: Photo
    half: str
    label: int
    p: Tensor


def pair_set(
    photos: PhotoSet,
    backbone: Backbone,
    taken: Sequence[Measure],
    seed: int,
    batch_size: int,
    workers: int = 0,
    most: int = MOST_PAIRS,
) -> PhotoSet | None:
    """Make the set of pictures of two photos, each explained for the class of one of the two.

    A photo is put beside the first free one before it whose class is another one, both of the same
    half, both surely predicted, and neither class predicted on the other photo. By turns the first
    or the second is explained, left or right, above or below.

    Args:
        photos: The run's photos, in its order; they are classified until there are enough pairs.
        backbone: The classifier.
        taken: All measures of the run; those of pairs are taken on this set.
        seed: Of the run.
        batch_size: Photos per forward pass.
        workers: Processes that read photos.
        most: Most pictures.

    Returns:
        The set; None where no two photos make a pair.

    Raises:
        ImageError: No photo can be read.
    """
    broken: dict[str, str] = {}
    pairs = list(islice(_pairs(_seen(photos, backbone, batch_size, workers, broken)), most))
    if not pairs:
        return None
    size = backbone.preprocessing.crop
    made, truth = [], []
    for number, pair in enumerate(pairs):
        dim, place = -1 - number % 2, number // 2 % 2
        own, other = pair[place], pair[1 - place]
        picture = partial(_picture, (pair[0].photo, pair[1].photo), photos.preprocessing, dim)
        # The half, the seed and the order go by the name of the photo that is explained.
        path = Path(f"pair {number} with {other.photo.path.name}", own.photo.path.name)
        made.append(Photo(path, own.label, picture))
        truth.append(_half(size, dim, place))
    return PhotoSet(
        name=PAIRS,
        photos=tuple(made),
        seeds=seeds_of(made, made, seed),
        preprocessing=squashed(backbone.preprocessing),  # made at the input's size already
        measures=tuple(item for item in taken if PAIR & set(item.needs)),
        classes=tuple(photo.label for photo in made),
        truth=tuple(truth),
        sources=tuple(seen.photo for pair in pairs for seen in pair),
        broken=tuple(broken.items()),
    )


def _seen(
    photos: PhotoSet, backbone: Backbone, batch_size: int, workers: int, broken: dict[str, str]
) -> Iterator[Seen]:
    """Yield the photos that are surely predicted; note why others could not be read."""
    looked_at = photos.photos[:MOST_PHOTOS]
    device = next(backbone.parameters(), torch.zeros(0)).device
    readable = False
    dataset = PhotoDataset(looked_at, photos.preprocessing)
    for batch in loader(dataset, batch_size=batch_size, workers=workers):
        broken.update((str(looked_at[item.index].path), item.message) for item in batch.broken)
        if not len(batch):
            continue
        readable = True
        # No tensor of the inference mode, kept by the classifier, could take part in a gradient.
        with torch.no_grad():
            logits = backbone.logits(normalised(backbone, batch.pixels.to(device)))
            p = probabilities(logits.double(), backbone.activation).cpu()
        for index, row in zip(batch.indices.tolist(), p, strict=True):
            if row.max() >= SURE:
                photo = looked_at[index]
                yield Seen(photo, half_of(photo.path.name), int(row.argmax()), row)
    if not readable:
        why = next(iter(broken.values()), "")
        raise ImageError(f"none of the {len(looked_at)} photos can be read; {why}")


def _pairs(photos: Iterable[Seen]) -> Iterator[tuple[Seen, Seen]]:
    free: list[Seen] = []
    for photo in photos:
        place = next((i for i, other in enumerate(free) if _apart(other, photo)), None)
        if place is None:
            free.append(photo)
        else:
            yield free.pop(place), photo


def _apart(first: Seen, second: Seen) -> bool:
    if first.label == second.label or first.half != second.half:
        return False
    return max(float(first.p[second.label]), float(second.p[first.label])) < SURE


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
