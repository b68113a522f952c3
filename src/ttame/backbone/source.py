"""The registry of model libraries, each under the prefix of its sources."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from ttame.backbone.weights import WeightFile
from ttame.images.preprocessing import Preprocessing


@dataclass(frozen=True)
class Request:
    """What to load from a library.

    Attributes:
        name: The library's own name of the model.
        weights: Local weight file, one that was read already, or None.
        pretrained: Whether to take the library's published weights where no file is given.
        image_size: Height and width of the input, or None for the model's own.
        model_args: Further arguments of the library's constructor.
        preprocessing: What the user gave, or None; with it, the model's own need not be found.
    """

    name: str
    weights: Path | WeightFile | None = None
    pretrained: bool = True
    image_size: tuple[int, int] | None = None
    model_args: dict[str, Any] = field(default_factory=dict)
    preprocessing: Preprocessing | None = None


@dataclass(frozen=True)
class Loaded:
    """A classifier from a library.

    Attributes:
        model: The classifier.
        preprocessing: The way from a photo to its input.
        class_names: K names, or None.
        source: What loads it from any working folder, where that is not what the user gave.
        multi_label: Whether the library says that any number of classes may be there at once.
    """

    model: nn.Module
    preprocessing: Preprocessing
    class_names: tuple[str, ...] | None = None
    source: str | None = None
    multi_label: bool = False


@dataclass(frozen=True)
class Source:
    """A library: how to load from it and which names it has."""

    load: Callable[[Request], Loaded]
    names: Callable[[], Sequence[str]]


SOURCES: dict[str, Source] = {}


def register_source(
    prefix: str, names: Callable[[], Sequence[str]]
) -> Callable[[Callable[[Request], Loaded]], Callable[[Request], Loaded]]:
    """Register a loader for sources ``prefix/name``.

    Args:
        prefix: What stands before the slash.
        names: Gives all valid names; called only to help after a typo.

    Returns:
        A decorator for the loader.
    """

    def register(load: Callable[[Request], Loaded]) -> Callable[[Request], Loaded]:
        SOURCES[prefix] = Source(load, names)
        return load

    return register
