"""Which photos a command was given, and what their pictures will be called."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ttame.errors import InputError
from ttame.files import free_name
from ttame.images.listfiles import READERS
from ttame.images.listing import Photo, list_photos

# File systems take names of 255 bytes; a picture's name is a photo's, a class' and an ending.
_LONGEST = 100


@dataclass(frozen=True)
class Item:
    """A photo to explain.

    Attributes:
        photo: Where it is.
        target: Path of its pictures below the output folder, without class and ending; no two
            items have the same.
    """

    photo: Photo
    target: Path


def gather(given: Sequence[Path]) -> list[Item]:
    """List the photos of files, folders (with sub-folders) and lists, each once.

    Args:
        given: As the user gave them; single files keep any name, and missing ones are left for
            the reader to report.

    Raises:
        InputError: A folder or list has no photos, or none of the photos exists.
    """
    found = [pair for path in given for pair in _expand(path.expanduser())]
    unique = {photo.path: (photo, name) for photo, name in reversed(found)}
    pairs = [unique[path] for path in dict.fromkeys(photo.path for photo, _ in found)]
    if not any(photo.path.exists() for photo, _ in pairs):
        names = ", ".join(repr(str(photo.path)) for photo, _ in pairs[:3])
        raise InputError(f"no photo is there: {names}; check the path")
    targets = unique_targets(name for _, name in pairs)
    return [Item(photo, target) for (photo, _), target in zip(pairs, targets, strict=True)]


def unique_targets(names: Iterable[Path]) -> list[Path]:
    """Drop the endings and number what would clash, also where case does not tell files apart.

    Example:
        >>> unique_targets([Path("a.jpg"), Path("b/a.jpg"), Path("A.png")])
        [...Path('a'), ...Path('b/a'), ...Path('A-2')]
    """
    taken: set[str] = set()
    return [free_name(name.with_name(shorten(name.stem)), taken) for name in names]


def shorten(name: str, longest: int = _LONGEST) -> str:
    """Cut a file name to so many bytes of valid UTF-8.

    Example:
        >>> shorten("ééé", 5)
        'éé'
    """
    return os.fsencode(name)[:longest].decode("utf-8", "ignore") or "photo"


def _expand(path: Path) -> list[tuple[Photo, Path]]:
    if path.is_dir():
        return [(photo, photo.path.relative_to(path)) for photo in list_photos(path)]
    if path.suffix.lower() in READERS and path.exists():
        return [(photo, _below(photo.path, path.parent)) for photo in list_photos(path)]
    return [(Photo(path), Path(path.name))]


def _below(path: Path, folder: Path) -> Path:
    """Return the path below the folder, or the bare name where it lies elsewhere."""
    inside = path.is_relative_to(folder) and ".." not in path.relative_to(folder).parts
    return path.relative_to(folder) if inside else Path(path.name)
