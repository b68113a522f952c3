"""The settings of a checkpoint, read from its ``hyper_parameters``."""

from __future__ import annotations

import operator
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ttame.errors import InputError, StorageError, unknown_name
from ttame.masking import FILLS

# What the mask put in place of removed pixels in training: pixel mask space, normalised mask space.
TRAIN_METHODS = {"raw_normalize": "black", "new": "mean"}

_SIDE, _LONGEST = 224, 4096  # the side of the paper's photos; none is longer than this


@dataclass(frozen=True)
class CheckpointSettings:
    """What a checkpoint says of its explainer.

    Attributes:
        model: torchvision's name of the classifier.
        layers: Graph nodes whose outputs the mechanism reads, in its order.
        version: ``attention_version`` as text, or None.
        fill: What replaced masked pixels in training, one of ``FILLS``, or None.
        num_classes: K, or None.
        image_size: Height and width of the classifier's input.
    """

    model: str
    layers: tuple[str, ...]
    version: str | None
    fill: str | None
    num_classes: int | None
    image_size: tuple[int, int]


def settings_of(
    values: Mapping[Any, Any],
    path: Path,
    model: str | None = None,
    layers: Sequence[str] | None = None,
    fill: str | None = None,
) -> CheckpointSettings:
    """Read ``hyper_parameters``; what the user says goes first.

    Args:
        values: ``hyper_parameters``; others than the attributes above are left alone.
        path: The file, for messages.
        model: The classifier, ``torchvision/NAME`` or ``NAME``.
        layers: Graph nodes, in the mechanism's order.
        fill: One of :data:`ttame.masking.FILLS`.

    Raises:
        StorageError: A value is missing or not understood; it is named.
        UnknownNameError: There is no such ``fill``.

    Example:
        >>> found = {"model_name": "vgg16", "layers": ["features.16"], "train_method": "new"}
        >>> settings_of(found, Path("vgg16.ckpt")).fill
        'mean'
    """
    if fill is not None and fill not in FILLS:
        raise unknown_name("fill", fill, FILLS)
    version, classes = values.get("attention_version"), values.get("num_classes")
    return CheckpointSettings(
        model=_model(values.get("model_name") if model is None else model, path),
        layers=_layers(values.get("layers") if layers is None else layers, path),
        version=None if version is None else str(version),
        fill=_fill(values.get("train_method"), path) if fill is None else fill,
        num_classes=None if classes is None else _count("num_classes", classes, path),
        image_size=_size(values.get("img_size"), path),
    )


def _model(value: Any, path: Path) -> str:
    if not isinstance(value, str) or not value.strip():
        raise _unreadable("model_name", "a torchvision name such as vgg16", value, path, "model")
    prefix, slash, name = value.rpartition("/")
    if slash and prefix != "torchvision":
        raise InputError(
            f"expected one of torchvision's classifiers, whose weights such checkpoints hold, got "
            f"{value!r}"
        )
    return name


def _layers(value: Any, path: Path) -> tuple[str, ...]:
    names = [part.strip() for part in value.split(",")] if isinstance(value, str) else value
    # A dict names the feature extractor's outputs: its keys are the graph nodes.
    names = list(names) if isinstance(names, Mapping | Sequence) else []
    if not names or not all(isinstance(name, str) and name for name in names):
        raise _unreadable("layers", "names such as layer2, layer3, layer4", value, path, "layers")
    return tuple(names)


def _fill(value: Any, path: Path) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str) or value not in TRAIN_METHODS:
        known = " or ".join(TRAIN_METHODS)
        raise _unreadable("train_method", known, value, path, "fill")
    return TRAIN_METHODS[value]


def _size(value: Any, path: Path) -> tuple[int, int]:
    sides = [_SIDE if value is None else value] * 2
    if isinstance(value, Sequence) and not isinstance(value, str):
        sides = list(value)
    if len(sides) != 2:
        raise _unreadable("img_size", "one side or (height, width)", value, path)
    height, width = (_count("img_size", side, path, _LONGEST) for side in sides)
    return height, width


def _count(name: str, value: Any, path: Path, most: int = sys.maxsize) -> int:
    try:
        number = -1 if isinstance(value, bool) else operator.index(value)
    except (TypeError, ValueError):
        number = -1
    if not 1 <= number <= most:
        upper = "" if most == sys.maxsize else f" and at most {most}"
        raise _unreadable(name, f"a whole number above 0{upper}", value, path)
    return number


def _unreadable(
    name: str, expected: str, value: Any, path: Path, option: str | None = None
) -> StorageError:
    came = "none" if value is None else repr(value)[:80]
    advice = "" if option is None else f"; say it with {option}= (--{option})"
    return StorageError(f"expected {name} of {path} to be {expected}, got {came}{advice}")
