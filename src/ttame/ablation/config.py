"""What an ablation compares: a YAML file, read and checked before anything is computed."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from ttame.errors import InputError, TtameError, unknown_name
from ttame.files import slug
from ttame.training.config import TrainingConfig, load_preset

KEYS = (
    *("model", "weights", "image_size", "data", "eval_data", "images", "preset", "seed"),
    *("settings", "cells", "grid"),
)
"""Keys of a configuration."""

SETTINGS = ("preset", "layers", *(item.name for item in fields(TrainingConfig)))
"""What the shared settings and a cell may set: everything that a training takes."""

_PATHS = ("weights", "data", "eval_data")
_OTHER_NAMES = {"layers", "preset"}


@dataclass(frozen=True)
class Cell:
    """One training of an ablation.

    Attributes:
        name: For tables and, as :attr:`folder`, for files.
        changes: What it sets otherwise than the shared settings do, as written.
        preset: Name of its preset.
        layers: Layers to read, or None for the usual ones.
        settings: All values of :class:`TrainingConfig` that are named for it, shared ones too.
    """

    name: str
    changes: Mapping[str, Any]
    preset: str
    layers: tuple[str, ...] | None
    settings: Mapping[str, Any]

    @property
    def folder(self) -> str:
        """Name of its folder."""
        return slug(self.name)


@dataclass(frozen=True)
class AblationConfig:
    """An ablation; the first cell is the base that all others are compared with.

    Attributes:
        model: The classifier: a source such as ``"timm/resnet50"``, a module or a backbone.
        data: Photos to train on, as :func:`ttame.images.listing.list_photos` takes them.
        eval_data: Photos to score on.
        cells: At least one.
        weights: The classifier's local weight file.
        image_size: The classifier's input size; None takes its own.
        images: How many of ``eval_data`` to draw; None takes all.
        seed: Of the drawn photos and the bootstrap; of the trainings too, unless they name one.
    """

    model: Any
    data: Any
    eval_data: Any
    cells: tuple[Cell, ...] = field(repr=False)
    weights: Path | None = None
    image_size: int | tuple[int, int] | None = None
    images: int | None = None
    seed: int = 0


def read_config(path: str | Path, **overrides: Any) -> AblationConfig:
    """Read a YAML file; its paths are relative to its own folder.

    Args:
        path: The file.
        **overrides: Values that go before the file's, by key; None is left out.

    Raises:
        InputError: The file cannot be read, or :func:`parse_config` refuses it.
    """
    import yaml

    path = Path(path)
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"cannot read the configuration {str(path)!r}: {reason}") from None
    except yaml.YAMLError as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{str(path)!r} is no valid YAML: {reason}") from None
    if isinstance(content, Mapping):
        content = {key: _beside(path, key, value) for key, value in content.items()}
    return parse_config(content, **overrides)


def parse_config(content: Any, **overrides: Any) -> AblationConfig:
    """Check a configuration; nothing is loaded or computed.

    Args:
        content: A mapping with some of ``KEYS``; see the page on ablations.
        **overrides: Values that go before those of ``content``, by key; None is left out.

    Raises:
        InputError: A key is missing, or a value does not fit; the message names cell and key.
        UnknownNameError: A key or setting is unknown.

    Example:
        >>> config = parse_config({
        ...     "model": "timm/resnet50", "data": "photos", "eval_data": "others",
        ...     "settings": {"epochs": 1}, "grid": {"branch": ["paper", "no-skip"]},
        ... })
        >>> [(cell.name, dict(cell.settings)) for cell in config.cells][1]
        ('branch=no-skip', {'seed': 0, 'epochs': 1, 'branch': 'no-skip'})
    """
    if not isinstance(content, Mapping):
        raise InputError(
            f"expected an ablation as a mapping of {', '.join(KEYS)}, got {type(content).__name__}"
        )
    values = {**content, **{key: value for key, value in overrides.items() if value is not None}}
    for key in values:
        if key not in KEYS:
            raise unknown_name("key of the ablation", key, KEYS, _advice(key))
    missing = [key for key in ("model", "data", "eval_data") if values.get(key) is None]
    if missing:
        raise InputError(f"the ablation lacks {missing[0]}; name it in the file or as an option")
    seed = _whole("seed", values.get("seed", 0), least=0)
    images = values.get("images")
    shared = {"preset": values.get("preset", "fast"), "seed": seed}
    shared |= _settings(values.get("settings") or {}, "settings")
    cells = tuple(
        _cell(name, changes, shared)
        for name, changes in [*_listed(values.get("cells")), *_product(values.get("grid"))]
    )
    _check_names(cells)
    weights = values.get("weights")
    return AblationConfig(
        model=values["model"],
        data=values["data"],
        eval_data=values["eval_data"],
        cells=cells,
        weights=None if weights is None else Path(weights),
        image_size=values.get("image_size"),
        images=None if images is None else _whole("images", images, least=1),
        seed=seed,
    )


@contextmanager
def naming(where: str) -> Iterator[None]:
    """Put a place in front of what is wrong there."""
    try:
        yield
    except TtameError as error:
        raise type(error)(f"{where}: {error}") from None


def _beside(path: Path, key: str, value: Any) -> Any:
    if key not in _PATHS or not isinstance(value, str):
        return value
    return path.parent / Path(value).expanduser()


def _advice(key: Any) -> str:
    return "(it is a setting: put it under settings or into a cell)" if key in SETTINGS else ""


def _whole(key: str, value: Any, least: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise InputError(f"expected {key} as a whole number of at least {least}, got {value!r}")
    return value


def _settings(given: Any, where: str) -> dict[str, Any]:
    """Check the names of settings; their values are checked together with the preset's."""
    if not isinstance(given, Mapping):
        raise InputError(f"{where}: expected settings as key: value, got {given!r}")
    settings = {str(key).replace("-", "_"): value for key, value in given.items()}
    with naming(where):
        for key in settings:
            if key not in SETTINGS:
                raise unknown_name("setting", key, SETTINGS)
    return settings


def _listed(cells: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    if cells is None:
        return
    if not isinstance(cells, Sequence) or isinstance(cells, str):
        raise InputError(f"cells: expected a list of cells, each with a name, got {cells!r}")
    for place, cell in enumerate(cells, start=1):
        if not isinstance(cell, Mapping) or not str(cell.get("name", "")).strip():
            raise InputError(f"cells: expected a name in cell {place}, got {cell!r}")
        name = str(cell["name"]).strip()
        changes = {key: value for key, value in cell.items() if key != "name"}
        yield name, _settings(changes, f"cell {name!r}")


def _product(grid: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    if grid is None:
        return
    settings = _settings(grid, "grid")
    for key, values in settings.items():
        if not isinstance(values, Sequence) or isinstance(values, str) or not values:
            raise InputError(f"grid: expected a list of values for {key}, got {values!r}")
    if not settings:
        raise InputError("grid: expected at least one setting with a list of values")
    for chosen in itertools.product(*settings.values()):
        changes = dict(zip(settings, chosen, strict=True))
        yield ", ".join(f"{key}={_shown(value)}" for key, value in changes.items()), changes


def _shown(value: Any) -> str:
    return "+".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _cell(name: str, changes: dict[str, Any], shared: Mapping[str, Any]) -> Cell:
    every = {**shared, **changes}
    settings = {key: value for key, value in every.items() if key not in _OTHER_NAMES}
    with naming(f"cell {name!r}"):
        load_preset(str(every["preset"]), settings)
        layers = _layers(every.get("layers"))
    return Cell(name, changes, str(every["preset"]), layers, settings)


def _layers(given: Any) -> tuple[str, ...] | None:
    if given is None:
        return None
    names = given.split(",") if isinstance(given, str) else given
    if not isinstance(names, Sequence) or not names:
        raise InputError(f"expected layers as a list of names, got {given!r}")
    return tuple(str(name).strip() for name in names)


def _check_names(cells: Sequence[Cell]) -> None:
    if not cells:
        raise InputError("the ablation has no cells; list them under cells, or give a grid")
    taken: dict[str, str] = {}
    for cell in cells:
        if cell.folder in taken:
            raise InputError(
                f"the cells {taken[cell.folder]!r} and {cell.name!r} would share the folder "
                f"{cell.folder!r}; give them other names"
            )
        taken[cell.folder] = cell.name
