"""Compile a function of plain numbers and arrays for the CPU, by numba."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

from numba import njit

FunctionT = TypeVar("FunctionT", bound=Callable[..., Any])


def compiled(function: FunctionT) -> FunctionT:
    """Compile a function when it is first called, to run without holding other threads.

    The result is kept in ``__pycache__``, or where ``NUMBA_CACHE_DIR`` says; where neither can be
    written, each process compiles anew.

    Example:
        >>> compiled(lambda a, b: a + b)(1, 2)
        3
    """
    options = {"nogil": True, "error_model": "numpy"}
    try:
        return cast(FunctionT, njit(cache=True, **options)(function))
    except RuntimeError:
        return cast(FunctionT, njit(**options)(function))
