"""Which photos there are: folders, file lists, CSV files; their digest, splits and samples."""

from __future__ import annotations

import hashlib
import os
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from ttame.errors import InputError
from ttame.images.listfiles import READERS

# fmt: off
EXTENSIONS = frozenset({
    ".jpg", ".jpeg", ".jpe", ".png", ".webp", ".gif", ".tif", ".tiff", ".bmp", ".ppm", ".pgm",
    ".pnm", ".avif", ".heic", ".heif",
})
# fmt: on
"""File name endings, in lower case, by which a folder's photos are known."""


@dataclass(frozen=True)
class Photo:
    """One photo that a data set names.

    Attributes:
        path: Where the file is; it need not exist or be readable. A name where there is no file.
        label: 0-based class index, or None where it is not known.
        read: Gives the photo where it is no file: whatever
            :func:`ttame.images.reading.as_photo` takes.
    """

    path: Path
    label: int | None = None
    read: Callable[[], Any] | None = field(default=None, repr=False, compare=False)


def list_photos(data: Any) -> list[Photo]:
    """List the photos of a data set without opening them.

    Args:
        data: One of

            - a folder: every image file in it and its sub-folders, sorted; hidden files and
              folders are left out, labels are None;
            - a text file (``.txt``, ``.lst``, ``.list``): one path a line, then optionally white
              space and an integer label (negative: not known); blank lines and ``#`` comments
              are skipped;
            - a CSV file with a column ``file``, ``path``, ``image`` or ``filename`` and optionally
              ``label`` or ``imagenet_label`` (empty or negative: not known);
            - a single image file;
            - paths, :class:`Photo` objects, or photos themselves (arrays, tensors, Pillow images);
            - an array or tensor of photos, or a map-style torch data set of them (of its items,
              the first part where there are several): each is read when it is needed.

            Paths in a text or CSV file are relative to that file.

    Returns:
        The photos; those of a folder sorted by path, all others in their given order.

    Raises:
        InputError: Nothing is there, it is not one of the above, or no photo is found.

    Example:
        >>> list_photos(["b.jpg", "a.jpg"])[0]
        Photo(path=...Path('b.jpg'), label=None)
    """
    if isinstance(data, (str, Path)):
        photos = _from_path(Path(data).expanduser())
    elif _indexed(data):
        photos = [_held(data, index) for index in range(len(data))]
    elif isinstance(data, Iterable):
        items = list(data)
        photos = [_photo(items, index) for index in range(len(items))]
    else:
        raise _unexpected(data)
    if not photos:
        raise InputError("expected at least one photo, got an empty list of paths")
    return photos


def data_digest(photos: Sequence[Photo]) -> str:
    """Fingerprint a data set: SHA-256 over the photos' names and sizes.

    Covers each path relative to the folder that all photos share, and each file's size in bytes
    (-1 where it is missing, or where there is no file). It covers neither pixels nor labels, and
    does not change with order or when the whole folder moves.

    Returns:
        64 lower-case hexadecimal digits.

    Example:
        >>> a, b = Photo(Path("a.jpg")), Photo(Path("b.jpg"))
        >>> data_digest([a, b]) == data_digest([b, a])
        True
    """
    paths = [photo.path.absolute() for photo in photos]
    common = Path(os.path.commonpath([path.parent for path in paths])) if paths else Path()
    entries = sorted(f"{path.relative_to(common).as_posix()}\0{_size(path)}\n" for path in paths)
    return hashlib.sha256("".join(entries).encode("utf-8", "surrogateescape")).hexdigest()


def split(photos: Sequence[Photo], share: float, seed: int) -> tuple[list[Photo], list[Photo]]:
    """Split photos at random into (training, validation), each sorted by path.

    Args:
        photos: The photos, in any order: the split depends on their paths and the seed only.
        share: Share of the photos for validation, in [0, 1). A share above 0 gives at least one
            photo to each side.
        seed: Another seed gives another split.

    Raises:
        InputError: The share is outside [0, 1), or there are fewer than two photos to split.

    Example:
        >>> training, validation = split([Photo(Path(f"{i}.jpg")) for i in range(10)], 0.2, seed=0)
        >>> len(training), len(validation)
        (8, 2)
    """
    if not 0 <= share < 1:
        raise InputError(f"expected a validation share in [0, 1), got {share}")
    if share > 0 and len(photos) < 2:
        raise InputError(
            f"expected at least 2 photos to split, got {len(photos)}; "
            "add photos or set the share to 0"
        )
    count = min(max(round(share * len(photos)), 1), len(photos) - 1) if share > 0 else 0
    shuffled = _shuffled(photos, seed)
    return sorted(shuffled[count:], key=_order), sorted(shuffled[:count], key=_order)


def sample(photos: Sequence[Photo], n: int, seed: int) -> list[Photo]:
    """Draw ``n`` photos at random, or all where there are fewer, sorted by path.

    Raises:
        InputError: ``n`` is below 1.

    Example:
        >>> len(sample([Photo(Path(f"{i}.jpg")) for i in range(10)], 3, seed=0))
        3
    """
    if n < 1:
        raise InputError(f"expected a number of photos of at least 1, got {n}")
    return sorted(_shuffled(photos, seed)[:n], key=_order)


def _order(photo: Photo) -> tuple[str, int]:
    return photo.path.as_posix(), -1 if photo.label is None else photo.label


def _shuffled(photos: Sequence[Photo], seed: int) -> list[Photo]:
    # random() is the one method that Python promises never to change for a given seed.
    draw = random.Random(seed).random
    drawn = [(draw(), photo) for photo in sorted(photos, key=_order)]
    return [photo for _, photo in sorted(drawn, key=lambda pair: pair[0])]


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return -1


def _photo(items: Sequence[Any], index: int) -> Photo:
    item = items[index]
    if isinstance(item, Photo):
        return item
    if isinstance(item, (str, Path)):
        return Photo(Path(item).expanduser())
    if hasattr(item, "shape") or hasattr(item, "getbands"):
        return _held(items, index)
    raise _unexpected(item)


def _indexed(data: Any) -> bool:
    """Whether data is an array of photos or a torch data set, told without importing torch."""
    if getattr(data, "ndim", 0) > 2:
        return True
    sized = hasattr(data, "__getitem__") and hasattr(data, "__len__")
    return sized and not isinstance(data, Iterable)


def _held(data: Any, index: int) -> Photo:
    return Photo(Path(f"photo-{index:06d}"), read=partial(_item, data, index))


def _item(data: Any, index: int) -> Any:
    item = data[index]
    return item[0] if isinstance(item, (tuple, list)) else item


def _unexpected(value: object) -> InputError:
    return InputError(
        "expected photos as a folder, a text list, a CSV file, an image file, several paths, "
        f"arrays or a torch data set, got {type(value).__name__}"
    )


def _from_path(path: Path) -> list[Photo]:
    if path.is_dir():
        return _from_folder(path)
    if not path.exists():
        raise InputError(f"photos {str(path)!r} do not exist; check the path")
    suffix = path.suffix.lower()
    if suffix in EXTENSIONS:
        return [Photo(path)]
    if suffix not in READERS:
        raise InputError(
            f"expected a folder, an image file or a list of photos ({', '.join(READERS)}), "
            f"got {str(path)!r}"
        )
    photos = [Photo(path.parent / name, label) for name, label in READERS[suffix](path)]
    if not photos:
        raise InputError(f"list of photos {str(path)!r} names no photo; write one path a line")
    # Single missing files are for the reader to report; a list of which none exists is misplaced.
    if not any(photo.path.is_file() for photo in photos):
        raise InputError(
            f"none of the {len(photos)} files that {str(path)!r} names exists, the first is "
            f"{str(photos[0].path)!r}; write paths relative to the list's own folder"
        )
    return photos


def _from_folder(folder: Path) -> list[Photo]:
    found, seen = [], set()
    for root, folders, names in os.walk(folder, followlinks=True):
        real = Path(root).resolve()
        if real in seen:  # a link to a folder above would be followed forever
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found += [
            Photo(Path(root, name))
            for name in names
            if not name.startswith(".") and Path(name).suffix.lower() in EXTENSIONS
        ]
    if not found:
        raise InputError(
            f"no photos in folder {str(folder)!r} and its sub-folders; expected files ending in "
            f"{', '.join(sorted(EXTENSIONS))}"
        )
    return sorted(found, key=_order)
