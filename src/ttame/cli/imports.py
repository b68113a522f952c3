"""Modules of the user's own that register methods and measures."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterable
from pathlib import Path

from ttame.errors import InputError, problem

_FILE = ".py"


def import_modules(names: Iterable[str]) -> None:
    """Import modules by name, or by the path of a file, so that what they register is known.

    The folder of a file, or the current one for names, is searched too, after all others; so do
    the processes of ``--jobs``.

    Args:
        names: ``"package.module"``, or ``"folder/module.py"``.

    Raises:
        InputError: There is no such module, it cannot be imported, or its name is that of another.
    """
    for name in names:
        path = Path(name)
        by_file = path.suffix == _FILE
        if by_file and not path.is_file():
            raise InputError(f"the file {name!r} to be imported does not exist; check the path")
        folder = str((path.parent if by_file else Path()).resolve())
        if folder not in sys.path:
            # Not first: a file called like a module of a library would take its place.
            sys.path.append(folder)
        try:
            module = importlib.import_module(path.stem if by_file else name)
        except Exception as error:
            # Whatever a module raises: it is the user's code.
            raise InputError(
                f"the module {name!r} cannot be imported: {problem(error)}; mend it, or leave "
                "--import out"
            ) from error
        found = getattr(module, "__file__", None) or "built in"
        if by_file and Path(found).resolve() != path.resolve():
            raise InputError(
                f"the name of the file {name!r} is that of another module ({found}); rename it"
            )
