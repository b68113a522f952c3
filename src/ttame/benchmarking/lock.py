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
    run excludes all others; a part excludes it and itself only.

    Args:
        folder: Made where it is missing.
        part: None for a whole run.

    Raises:
        InputError: Another run, or the same part of one, writes there.
        StorageError: The folder cannot be written.
    """
    check_writable(folder)
    patience = 0 if part is None else _MOMENT
    own = folder / (LOCK if part is None else f"{LOCK}-{part}")
    with _held(own, patience):
        # Taken first, then looked: of two that start together at least one sees the other. The
        # whole run gives way at once, so that not both do.
        for path in folder.glob(f"{LOCK}-*") if part is None else [folder / LOCK]:
            with _held(path, patience):
                pass
        yield


def check_unlocked(folder: Path, part: Part | None = None) -> None:
    """Refuse a folder that another run, or the same part of one, writes into.

    Raises:
        InputError: One does.
    """
    if any(folder.glob(f"{LOCK}*")):
        with one_run(folder, part):
            pass


@contextmanager
def in_turn(folder: Path) -> Iterator[None]:
    """Let parts that start together read and write what they share one after the other.

    Raises:
        InputError: Another process stays there for long.
        StorageError: The folder cannot be written.
    """
    with _held(folder / f"{LOCK}-turn", 12 * _MOMENT):
        yield


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
