"""Order and halves of the photos, fixed by their names: no photo moves when others come or go."""

from __future__ import annotations

import collections
import hashlib
from collections.abc import Sequence
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


def photo_seed(seed: int, name: str) -> int:
    """Derive a photo's seed from the run's and its file name.

    Example:
        >>> photo_seed(0, "a.jpg") == photo_seed(0, "a.jpg") != photo_seed(1, "a.jpg")
        True
    """
    return _number(f"{seed}/{name}") % 2**32


def arrange(photos: Sequence[Photo], half: str, seed: int, images: int | None) -> list[Photo]:
    """Put photos into the run's random order and take the first of one half.

    The order depends on seed and file names, so any first part is a random sample, and the photos
    of a short run are the first ones of a longer run. A photo that is named twice counts once.
    Photos of one file name in several folders belong to one half; their folders' names put them
    into random order among all.

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
    names = collections.Counter(path.name for path in {photo.path for photo in unique})
    if not chosen:
        raise InputError(
            f"none of the {len(photos)} photos belongs to the half {half!r}, which depends on the "
            f"file name ({len(names)} different ones here); give more photos or take the half 'all'"
        )

    def order(photo: Photo) -> tuple[int, str, int]:
        name, folder = photo.path.name, photo.path.parent.name
        number = _number(f"order/{seed}/{name if names[name] == 1 else f'{folder}/{name}'}")
        return number, photo.path.as_posix(), -1 if photo.label is None else photo.label

    return sorted(chosen, key=order)[:images]


def _number(text: str) -> int:
    digest = hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()
    return int.from_bytes(digest, "big")
