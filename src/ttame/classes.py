"""Which classes to explain: names, synonyms, indices and ``top3`` become class indices."""

from __future__ import annotations

import operator
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import SupportsIndex

from ttame.errors import InputError, unknown_name

_TOP = re.compile(r"top[-_ ]?(\d+)", re.IGNORECASE)
_INDEX = re.compile(r"[+-]?\d+")


@dataclass(frozen=True)
class ClassRequest:
    """The classes that someone asked for: either the best-rated ones or fixed ones.

    Attributes:
        top: Number of best-rated classes per photo, or None where ``indices`` are given.
        indices: Class indices, the same for every photo; empty where ``top`` is given.
    """

    top: int | None = None
    indices: tuple[int, ...] = ()


def resolve_class(
    name_or_index: str | SupportsIndex, class_names: Sequence[str] | None, num_classes: int
) -> int:
    """Find a class by its index, its name or one of its synonyms.

    A class name such as ``"tench, Tinca tinca"`` is a list of synonyms, and any of them will do.
    Case does not matter, unless it tells two classes apart. A text is tried as a name before it
    is read as an index, because classes may be named by numbers.

    Args:
        name_or_index: An index in 0..K-1, or a name.
        class_names: K names, or None where they are not known.
        num_classes: K, the number of classes.

    Returns:
        The class index.

    Raises:
        UnknownNameError: No class has this name; the nearest names are in the message.
        InputError: The index is out of range, the name fits several classes, or neither came.

    Example:
        >>> names = ["tench, Tinca tinca", "goldfish, Carassius auratus"]
        >>> resolve_class("goldfish", names, 2), resolve_class("TENCH", names, 2)
        (1, 0)
    """
    if not isinstance(name_or_index, str):
        return _checked_index(name_or_index, num_classes)
    name = name_or_index.strip()
    if not name:
        raise InputError("expected a class name or index, got an empty text")
    found = _matches(name, class_names or ())
    if len(found) > 1:
        places = " or ".join(str(index) for index in found)
        raise InputError(f"several classes are named {name!r}; give the index instead: {places}")
    if found:
        return found[0]
    if _INDEX.fullmatch(name):
        return _checked_index(int(name), num_classes)
    if class_names is None:
        raise InputError(
            f"cannot look up class {name!r}: this classifier has no class names; "
            f"give an index in 0..{num_classes - 1}"
        )
    known = dict.fromkeys(part for full in class_names for part in _synonyms(full))
    raise unknown_name("class", name, known)


def resolve_classes(
    names_or_indices: Iterable[str | SupportsIndex],
    class_names: Sequence[str] | None,
    num_classes: int,
) -> tuple[int, ...]:
    """Find several classes as :func:`resolve_class` does, in the order given.

    Example:
        >>> resolve_classes(["dog", 0], ["cat", "dog"], 2)
        (1, 0)
    """
    return tuple(resolve_class(item, class_names, num_classes) for item in names_or_indices)


def parse_classes(spec: str, class_names: Sequence[str] | None, num_classes: int) -> ClassRequest:
    """Read what the command line takes for classes.

    Args:
        spec: ``"top3"`` (at most K classes then), or names and indices separated by commas; a
            name that itself contains commas may be given in full.
        class_names: K names, or None where they are not known.
        num_classes: K, the number of classes.

    Returns:
        The request; a class that is named twice is kept once.

    Raises:
        UnknownNameError: No class has one of the names.
        InputError: The text is empty, mixes ``top`` with classes, or an index is out of range.

    Example:
        >>> parse_classes("top3", None, 10)
        ClassRequest(top=3, indices=())
        >>> parse_classes("tench, Tinca tinca, 5", ["tench, Tinca tinca"] + list("abcdef"), 7)
        ClassRequest(top=None, indices=(0, 5))
    """
    parts = [part.strip() for part in spec.split(",") if part.strip()]
    if not parts:
        raise InputError("expected classes such as 'top3', 'tench' or '0,5', got an empty text")
    tops = [match for match in map(_TOP.fullmatch, parts) if match]
    if tops and len(parts) > 1:
        raise InputError(f"expected either 'topN' or a list of classes, got both in {spec!r}")
    if tops:
        count = int(tops[0][1])
        if count < 1:
            raise InputError(f"expected at least one class, got {spec!r}; use 'top1' or more")
        return ClassRequest(top=min(count, num_classes))
    names = _rejoined(parts, class_names or ())
    indices = resolve_classes(names, class_names, num_classes)
    return ClassRequest(indices=tuple(dict.fromkeys(indices)))


def short_name(name: str) -> str:
    """Return the first synonym of a class name.

    Example:
        >>> short_name("tench, Tinca tinca")
        'tench'
    """
    return next(iter(_synonyms(name)), name)


def _synonyms(name: str) -> list[str]:
    return [part for part in (part.strip() for part in name.split(",")) if part]


def _matches(name: str, class_names: Sequence[str]) -> list[int]:
    """Return the classes that fit best: as written before any case, in full before a synonym."""
    folded = name.casefold()
    ways = (
        lambda full: full == name,
        lambda full: name in _synonyms(full),
        lambda full: full.casefold() == folded,
        lambda full: folded in (part.casefold() for part in _synonyms(full)),
    )
    for fits in ways:
        found = [index for index, full in enumerate(class_names) if fits(full)]
        if found:
            return found
    return []


def _rejoined(parts: list[str], class_names: Sequence[str]) -> list[str]:
    """Join neighbouring parts that together are one full class name, longest first."""
    full_names = {", ".join(_synonyms(full)).casefold() for full in class_names}
    longest = max((full.count(",") + 1 for full in class_names), default=1)
    names: list[str] = []
    start = 0
    while start < len(parts):
        ends = range(min(len(parts), start + longest), start, -1)
        end = next(
            (end for end in ends if ", ".join(parts[start:end]).casefold() in full_names), start + 1
        )
        names.append(", ".join(parts[start:end]))
        start = end
    return names


def _checked_index(value: object, num_classes: int) -> int:
    try:
        # A bool is an integer to Python, and always a mistake here.
        index = operator.index(value) if not isinstance(value, bool) else None  # type: ignore[arg-type]
    except TypeError:
        index = None
    if index is None:
        raise InputError(f"expected a class index or name, got {value!r} ({type(value).__name__})")
    if not 0 <= index < num_classes:
        raise InputError(
            f"expected a class index in 0..{num_classes - 1}, got {index}"
            " (this classifier has no such class)"
        )
    return index
