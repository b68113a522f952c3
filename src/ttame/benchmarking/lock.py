"""One run at a time in a folder, or several parts of one."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from ttame.benchmarking.parts import Part
from ttame.errors import InputError, StorageError
from ttame.files import check_writable

LOCK = ".lock"
"""Name of the lock file; hidden, so that a folder with nothing else counts as empty."""

# Parts that start together look for a moment whether others hold the folder.
_MOMENT = 5.0


@contextmanager
def one_run(folder: Path, part: Part | None = None) -> Iterator[None]:
    """Take a folder for one run, or for a part of one, and give it back afterwards.

    The operating system holds the lock and lets go of it when the process ends, by a kill too. A
    run excludes all others; parts exclude it and themselves only.

    Args:
        folder: Made where it is missing.
        part: None for a whole run.

    Raises:
        InputError: Another run, or the same part of one, writes there.
        StorageError: The folder cannot be written.
    """
    check_writable(folder)
    own = folder / (LOCK if part is None else f"{LOCK}-{part}")
    with _held(own, 0 if part is None else _MOMENT):
        # Taken first, then looked: of two that start together at least one sees the other.
        others = folder.glob(f"{LOCK}-*") if part is None else [folder / LOCK]
        for path in others:
            if path.exists():
                with _held(path, _MOMENT):
                    pass
        yield


def check_unlocked(folder: Path) -> None:
    """Refuse a folder that another run writes into.

    Raises:
        InputError: One does.
    """
    if (folder / LOCK).exists():
        with one_run(folder):
            pass


@contextmanager
def _held(path: Path, patience: float) -> Iterator[None]:
    lock = FileLock(path, timeout=patience)
    try:
        lock.acquire()
    except Timeout as error:
        raise InputError(
            f"another run is writing into {path.parent}; wait for its end or stop it, or choose "
            "another folder"
        ) from error
    except (OSError, NotImplementedError) as error:  # a file system without locks
        raise StorageError(f"cannot lock {path}: {error}") from error
    try:
        yield
    finally:
        # The file stays: removing it could leave two runs with locks on two files of one name.
        lock.release()


def end_with_parent() -> None:
    """End this process as soon as the one that started it ends, even by a kill.

    The processes of a run may not go on writing when another run takes its folder.
    """
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def wait() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, name="ttame-end-with-parent", daemon=True).start()
