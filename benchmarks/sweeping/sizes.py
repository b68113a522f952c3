"""How many parameters a model has, without giving it memory."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn.modules.module import register_module_parameter_registration_hook


class _TooLargeError(Exception):
    """A model has more parameters than asked for."""


def count_parameters(build: Callable[[], nn.Module], most: float = math.inf) -> int | None:
    """Count the parameters of what ``build`` makes, on torch's device without memory.

    Args:
        build: Makes the model.
        most: The building is given up as soon as there are more.

    Returns:
        The number, or None where there are more than ``most``.
    """
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.simplefilter("ignore")
        try:
            with _at_most(most), torch.device("meta"):
                model = build()
        except _TooLargeError:
            return None
        except Exception:  # some models compute with numbers while they are made
            model = build()
    count = sum(parameter.numel() for parameter in model.parameters())
    return count if count <= most else None


@contextmanager
def _at_most(most: float) -> Iterator[None]:
    count = 0

    def add(_module: nn.Module, _name: str, parameter: Any) -> None:
        nonlocal count
        count += 0 if parameter is None else parameter.numel()
        if count > most:
            raise _TooLargeError

    handle = register_module_parameter_registration_hook(add)
    try:
        yield
    finally:
        handle.remove()


def smallest(
    names: Iterable[str], count: Callable[[str, float], int | None]
) -> tuple[str, int | None]:
    """Find the name with the smallest count; of equals, the first.

    Args:
        names: At least one.
        count: Counts for a name up to a limit; None is more. A model that cannot be made raises.

    Returns:
        Name and count. Where none can be made, the first name and None.

    Example:
        >>> sizes = {"bb": 2, "a": 1, "ccc": 3}
        >>> smallest(list(sizes), lambda name, most: sizes[name] if sizes[name] <= most else None)
        ('a', 1)
    """
    best: tuple[str, int | None] | None = None
    first = None
    for name in names:
        first = first or name
        most = math.inf if best is None or best[1] is None else best[1] - 1
        try:
            found = count(name, most)
        except Exception:  # a model that cannot be made is not the smallest
            continue
        if found is not None:
            best = (name, found)
    if first is None:
        raise ValueError("expected at least one name")
    return best or (first, None)
