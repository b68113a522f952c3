"""``NAME=VALUE`` texts of the command line: explainers, limits, and options of what takes part."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ttame.cli.options import split_list
from ttame.errors import InputError


def read_explainers(texts: Sequence[str]) -> dict[str, Path]:
    """Read ``NAME=FOLDER`` texts.

    Raises:
        InputError: One has no ``=``, or a name comes twice.
    """
    pairs: dict[str, Path] = {}
    for text in texts:
        name, equals, folder = text.partition("=")
        if not (name and equals and folder) or name in pairs:
            raise InputError(f"expected --also NAME=FOLDER with different names, got {text!r}")
        pairs[name] = Path(folder)
    return pairs


def read_limits(texts: Sequence[str], known: Sequence[str] = ()) -> dict[str, int | None]:
    """Read ``NAME=N`` texts, several with commas in one; dashes for the underscores of known names.

    Raises:
        InputError: One is not of that form, or a name comes twice.

    Example:
        >>> read_limits(["rise=20,srg=all", "road=100"])
        {'rise': 20, 'srg': None, 'road': 100}
    """
    limits: dict[str, int | None] = {}
    for text in (part for item in texts for part in split_list(item) or ()):
        given, _, number = (part.strip() for part in text.partition("="))
        name = given if given in known else given.replace("-", "_")
        count = int(number) if number.isdecimal() else 0
        if not name or name in limits or not (count or number == "all"):
            raise InputError(
                "expected --limit NAME=N with different names, N a number of photos or all, got "
                f"{text!r}"
            )
        limits[name] = count or None
    return limits


def read_options(texts: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Read ``NAME.OPTION=VALUE`` texts; values are JSON, or else plain text.

    Raises:
        InputError: One is not of that form.

    Example:
        >>> read_options(["road.noise=0", "rise.masks=200", "confidence.rule=exact"])
        {'road': {'noise': 0}, 'rise': {'masks': 200}, 'confidence': {'rule': 'exact'}}
    """
    options: dict[str, dict[str, Any]] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        name, dot, option = key.strip().replace("-", "_").partition(".")
        if not (name and dot and option and equals):
            raise InputError(f"expected --set NAME.OPTION=VALUE, got {text!r}")
        try:
            parsed = json.loads(value)
        except ValueError:
            parsed = value.strip()
        options.setdefault(name, {})[option] = parsed
    return options


def with_options(found: Any, options: dict[str, dict[str, Any]]) -> Any:
    """Set the options of one method or measure, and take them off the list."""
    given = options.pop(found.name, {})
    changed = found.with_options(**given)
    return changed.with_options(**{name: _typed(found, name, given[name]) for name in given})


def _typed(found: Any, option: str, value: Any) -> Any:
    """Bring a value to the type of the option's own.

    Raises:
        InputError: It does not fit.
    """
    default = found.options[option]
    fitted = _fitted(default, value)
    if fitted is None and default is not None:
        raise InputError(
            f"expected {found.name}.{option} of type {type(default).__name__} like {default!r}, "
            f"got {value!r}"
        )
    return fitted


def _fitted(default: Any, value: Any) -> Any:
    """Return a value as one of the default's type; None where it is none.

    Example:
        >>> _fitted((1.0, 0.5), [1, 0.2]), _fitted((1.0, 0.5), ["a"]), _fitted(0.5, "a")
        ((1.0, 0.2), None, None)
    """
    kind = type(default)
    if default is None or type(value) is kind:
        return value
    if kind is float and type(value) is int:
        return float(value)
    if kind is tuple and isinstance(value, list):
        items = tuple(_fitted(default[0], item) if default else item for item in value)
        return None if None in items else items
    return None
