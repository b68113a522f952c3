"""Order, seeds and halves of photos, fixed by their names: none moves when others come or go."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ttame.errors import InputError, unknown_name

if TYPE_CHECKING:
    from ttame.images.listing import Photo

HALVES = ("choosing", "reporting")


def half_of(name: str) -> str:
    """Return the half that a photo belongs to, by the SHA-256 of its file name.

    Whatever is chosen by looking at scores (hyperparameters, layers, a method's options) is chosen
    on the half ``"choosing"``; what is published is scored on the half ``"reporting"``.

    Args:
        name: File name without folders; the half depends on nothing else.

    Example:
        >>> [half_of(name) for name in ("a.jpg", "f.jpg")]
        ['choosing', 'reporting']
    """
    return HALVES[_number(name) % 2]


def photo_keys(photos: Iterable[Photo]) -> dict[Path, str]:
    """Name photos for their order and seeds: by the file name, longer where it is no name of one.

    Of photos of one file name in several folders it is the path below what their folders share.

    Returns:
        A text by path, different for every path.

    Example:
        >>> from ttame.images.listing import Photo
        >>> paths = [Path("data/one.jpg"), Path("data/0/x/a.jpg"), Path("data/1/x/a.jpg")]
        >>> list(photo_keys(map(Photo, paths)).values())
        ['one.jpg', '0/x/a.jpg', '1/x/a.jpg']
    """
    by_name: dict[str, list[Path]] = {}
    for path in dict.fromkeys(photo.path for photo in photos):
        by_name.setdefault(path.name, []).append(path)
    keys: dict[Path, str] = {}
    for paths in by_name.values():
        levels = zip(*(path.parts for path in paths), strict=False)
        shared = sum(1 for _ in itertools.takewhile(lambda level: len(set(level)) == 1, levels))
        for path in paths:
            keys[path] = "/".join(path.parts[shared:]) if len(paths) > 1 else path.name
    return keys


def photo_seed(seed: int, key: str) -> int:
    """Derive a photo's seed from the run's and its key.

    Example:
        >>> photo_seed(0, "a.jpg") == photo_seed(0, "a.jpg") != photo_seed(1, "a.jpg")
        True
    """
    return _number(f"{seed}/{key}") % 2**32


def seeds_of(chosen: Iterable[Photo], given: Iterable[Photo], seed: int) -> tuple[int, ...]:
    """Return the seed of every chosen photo of those that were given to the run."""
    keys = photo_keys(given)
    return tuple(photo_seed(seed, keys[photo.path]) for photo in chosen)


def arrange(photos: Sequence[Photo], half: str, seed: int, images: int | None) -> list[Photo]:
    """Put photos into the run's random order and take the first of one half.

    The order depends on seed and file names, so any first part is a random sample, and the photos
    of a short run are the first ones of a longer run. A photo that is named twice counts once.
    Photos of one file name in several folders belong to one half; their order goes by their
    :func:`photo_keys`, so there it depends on which of them are given.

    Args:
        photos: In any order.
        half: ``"all"``, ``"choosing"`` or ``"reporting"``.
        seed: Another seed gives another order.
        images: How many to take; None takes all.

    Raises:
        UnknownNameError: There is no such half.
        InputError: Fewer than 1 photo is asked for, or the half has none.
    """
    if half not in ("all", *HALVES):
        raise unknown_name("half", half, ("all", *HALVES))
    if images is not None and images < 1:
        raise InputError(f"expected a number of photos of at least 1, got {images}")
    unique = dict.fromkeys(photos)
    chosen = [photo for photo in unique if half in ("all", half_of(photo.path.name))]
    keys = photo_keys(unique)
    names = {path.name for path in keys}
    if not chosen:
        raise InputError(
            f"none of the {len(photos)} photos belongs to the half {half!r}, which depends on the "
            f"file name ({len(names)} different ones here); give more photos or take the half 'all'"
        )

    def order(photo: Photo) -> tuple[int, str, int]:
        number = _number(f"order/{seed}/{keys[photo.path]}")
        return number, photo.path.as_posix(), -1 if photo.label is None else photo.label

    return sorted(chosen, key=order)[:images]


def _number(text: str) -> int:
    digest = hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()
    return int.from_bytes(digest, "big")
