"""Which models are swept: the smallest of every family, or all that match."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from fnmatch import fnmatch
from functools import partial
from pathlib import Path
from typing import Any

from sweeping.libraries import LIBRARIES, AbsentError
from sweeping.sizes import count_parameters, smallest


@dataclass(frozen=True)
class Entry:
    """A model to be swept.

    Attributes:
        library: Prefix of its source.
        family: The library's own module or model type that makes it.
        model: Its name in the library.
        parameters: How many it has, or None where it could not be made.
    """

    library: str
    family: str
    model: str
    parameters: int | None = None

    @property
    def name(self) -> str:
        """Library and model: what ``--only`` is compared with."""
        return f"{self.library}/{self.model}"


@dataclass(frozen=True)
class Part:
    """What is swept of one library.

    Attributes:
        version: The library's version, or None where it is not there.
        absent: Why it is not there.
        entries: The models.
    """

    version: str | None
    absent: str | None = None
    entries: tuple[Entry, ...] = ()


def matching(
    families: Mapping[str, Sequence[str]], library: str, glob: str
) -> dict[str, list[str]]:
    """Keep the models whose name matches, and the families that have such.

    Example:
        >>> matching({"resnet": ["resnet18", "test_resnet"], "vgg": ["vgg11"]}, "timm", "*/test_*")
        {'resnet': ['test_resnet']}
    """
    kept = {
        family: [name for name in names if fnmatch(f"{library}/{name}", glob)]
        for family, names in families.items()
    }
    return {family: names for family, names in kept.items() if names}


def catalogue(library: str, glob: str = "*", every: bool = False) -> Part:
    """Find what is swept of a library.

    Args:
        library: One of ``LIBRARIES``.
        glob: Models that may be taken.
        every: Take all of them, not only the smallest of every family.
    """
    source = LIBRARIES[library]
    try:
        version = source.version()
    except AbsentError as error:
        return Part(None, absent=str(error))
    families = matching(source.families(), library, glob)
    return Part(version, entries=tuple(_entries(library, families, every)))


def _entries(library: str, families: Mapping[str, Sequence[str]], every: bool) -> Iterator[Entry]:
    def count(name: str, most: float) -> int | None:
        return count_parameters(partial(LIBRARIES[library].build, name), most)

    for family, names in families.items():
        for group in [[name] for name in names] if every else [names]:
            yield Entry(library, family, *smallest(group, count))


def in_order(entries: Sequence[Entry]) -> list[Entry]:
    """Sort by size, so that a run that is cut off has seen most models; unknown sizes go last."""
    return sorted(entries, key=lambda e: (e.parameters is None, e.parameters or 0, e.name))


def save(parts: Mapping[str, Part], file: Path) -> None:
    """Write a catalogue by library: counting all parameters takes minutes."""
    file.write_text(json.dumps({k: asdict(v) for k, v in parts.items()}, indent=1) + "\n")


def load(file: Path) -> dict[str, Part]:
    """Read what :func:`save` wrote; empty where there is no file."""
    found: dict[str, dict[str, Any]] = json.loads(file.read_text()) if file.is_file() else {}
    return {
        library: Part(
            part["version"], part["absent"], tuple(Entry(**entry) for entry in part["entries"])
        )
        for library, part in found.items()
    }
