"""Modules of the user's own that register methods and measures."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterable
from pathlib import Path

from ttame.errors import InputError, first_line

_FILE = ".py"


def import_modules(names: Iterable[str]) -> None:
    """Import modules by name, or by the path of a file, so that what they register is known.

    The folder of a file, and the current one for names, are searched first, by processes of
    ``--jobs`` too.

    Args:
        names: ``"package.module"``, or ``"folder/module.py"``.

    Raises:
        InputError: There is no such module, or it cannot be imported.

    Example:
        >>> import_modules(["json"])
    """
    for name in names:
        path = Path(name)
        by_file = path.suffix == _FILE
        if by_file and not path.is_file():
            raise InputError(f"the file {name!r} to be imported does not exist; check the path")
        folder = str((path.parent if by_file else Path()).resolve())
        if folder not in sys.path:
            sys.path.insert(0, folder)
        try:
            importlib.import_module(path.stem if by_file else name)
        except Exception as error:
            # Whatever a module raises: it is the user's code.
            raise InputError(
                f"the module {name!r} cannot be imported: {type(error).__name__}: "
                f"{first_line(error)}"
            ) from error
