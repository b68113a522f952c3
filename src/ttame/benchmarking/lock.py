"""One run at a time in a folder."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from ttame.errors import InputError, StorageError
from ttame.files import check_writable

LOCK = ".lock"
"""Name of the lock file; hidden, so that a folder with nothing else counts as empty."""


@contextmanager
def one_run(folder: Path) -> Iterator[None]:
    """Take a folder for one run and give it back afterwards.

    The operating system holds the lock and lets go of it when the process ends, by a kill too.

    Args:
        folder: Made where it is missing.

    Raises:
        InputError: Another run writes there.
        StorageError: The folder cannot be written.
    """
    check_writable(folder)
    lock = FileLock(folder / LOCK, timeout=0)
    try:
        lock.acquire()
    except Timeout as error:
        raise InputError(
            f"another run is writing into {folder}; wait for its end or stop it, or choose another "
            "folder"
        ) from error
    except (OSError, NotImplementedError) as error:  # a file system without locks
        raise StorageError(f"cannot lock {folder / LOCK}: {error}") from error
    try:
        yield
    finally:
        # The file stays: removing it could leave two runs with locks on two files of one name.
        lock.release()


def check_unlocked(folder: Path) -> None:
    """Refuse a folder that another run writes into.

    Raises:
        InputError: One does.
    """
    if (folder / LOCK).exists():
        with one_run(folder):
            pass


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
