"""Writing files so that nobody ever finds half of one."""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from ttame.errors import StorageError


def write_atomically(path: str | Path, write: Callable[[IO[bytes]], Any]) -> Path:
    """Write a file completely or not at all; missing folders are made.

    Args:
        path: Where the file shall be.
        write: Called with an open binary file.

    Returns:
        The path.

    Raises:
        StorageError: The place cannot be written.
    """
    path = Path(path)
    temporary = ""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # The temporary file lies in the same folder: a rename is atomic on one file system only.
        handle, temporary = tempfile.mkstemp(prefix=".ttame-", dir=path.parent)
        with os.fdopen(handle, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        umask = os.umask(0)
        os.umask(umask)
        Path(temporary).chmod(0o666 & ~umask)
        Path(temporary).replace(path)
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        if temporary:
            with contextlib.suppress(FileNotFoundError):
                Path(temporary).unlink()
    return path


def check_writable(folder: str | Path) -> Path:
    """Make ``folder`` if it is missing and prove that files can be written in it.

    Raises:
        StorageError: They cannot; nothing was computed yet.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise StorageError(
            f"cannot write into {folder}: {error.strerror or error}; choose another folder"
        ) from error
    return folder


def free_name(name: Path, taken: set[str]) -> Path:
    """Number a name that is taken already, also where only its case differs, and take it.

    Args:
        name: A path without its ending.
        taken: The names used so far, folded; the new one is added.

    Example:
        >>> taken: set[str] = set()
        >>> [free_name(Path(name), taken).name for name in ("a", "A", "b")]
        ['a', 'A-2', 'b']
    """
    free, number = name, 2
    while str(free).casefold() in taken:
        free = name.with_name(f"{name.name}-{number}")
        number += 1
    taken.add(str(free).casefold())
    return free


def slug(text: str, longest: int = 60) -> str:
    """Return a text as a safe part of a file name, at most ``longest`` bytes long.

    Example:
        >>> slug("Tench, Tinca tinca!")
        'tench-tinca-tinca'
    """
    words = re.sub(r"[^\w]+", "-", text.lower()).strip("-")
    # Bytes are what file systems count, and a letter of another script has up to four.
    return words.encode()[:longest].decode(errors="ignore").strip("-") or "untitled"
