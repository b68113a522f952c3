"""One run at a time in a folder: a lock file that tells which process writes there."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from ttame.errors import InputError, StorageError
from ttame.files import check_writable

LOCK = ".lock"
"""Name of the lock file; hidden, so that a folder with nothing else counts as empty."""


@dataclass(frozen=True)
class Owner:
    """The process that writes into a folder.

    Attributes:
        pid: Its number.
        host: The machine's name; what runs on another one cannot be looked up.
        born: When the kernel started it, or None where that is not known: numbers are used again,
            and in a container that starts anew every process gets the one it had.
        since: When it took the folder, for people.
    """

    pid: int
    host: str
    born: str | None = None
    since: str = ""

    @classmethod
    def me(cls) -> Owner:
        """Return this process."""
        since = time.strftime("%Y-%m-%d %H:%M:%S")
        return cls(os.getpid(), socket.gethostname(), _born(os.getpid()), since)

    def is_gone(self) -> bool:
        """Tell whether the process has ended for sure."""
        # Only POSIX has a signal that asks and does nothing else.
        if self.host != socket.gethostname() or os.name != "posix":
            return False
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        except OSError:  # it is there and belongs to somebody else
            pass
        now = _born(self.pid)
        return None not in (self.born, now) and self.born != now


@contextmanager
def one_run(folder: Path) -> Iterator[None]:
    """Take a folder for one run and give it back afterwards.

    The lock of a process that has ended on this machine, by a kill for example, is taken over.

    Args:
        folder: Made where it is missing.

    Raises:
        InputError: Another run writes there, or may do so on another machine.
        StorageError: The folder cannot be written.
    """
    check_writable(folder)
    check_unlocked(folder)
    path, me = folder / LOCK, Owner.me()
    if path.exists():
        _remove_stale(path)
    try:
        # Of several processes only one can create the file.
        with path.open("x", encoding="utf-8") as file:
            file.write(json.dumps(asdict(me)))
    except FileExistsError:
        raise _taken(folder, _read(path)) from None
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error.strerror or error}") from error
    try:
        yield
    finally:
        if _read(path) == me:
            path.unlink(missing_ok=True)


def check_unlocked(folder: Path) -> None:
    """Refuse a folder that another run writes into.

    Raises:
        InputError: One does, or may do so.
    """
    path = folder / LOCK
    owner = _read(path)
    if path.exists() and (owner is None or not owner.is_gone()):
        raise _taken(folder, owner)


def end_with_parent() -> None:
    """End this process as soon as the one that started it ends, even by a kill.

    The processes of a run may not go on writing when its lock is taken over.
    """
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def wait() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, name="ttame-end-with-parent", daemon=True).start()


def _remove_stale(path: Path) -> None:
    """Remove the lock of a process that is gone, and no other.

    Two processes may find it at once, and one may have made its own meanwhile. So it is put aside
    by a rename, which only one of them can do, and looked at once more.
    """
    aside = path.with_name(f"{LOCK}-{os.getpid()}-{threading.get_ident()}")
    try:
        path.rename(aside)
    except OSError:
        return
    owner = _read(aside)
    if owner is None or not owner.is_gone():
        with contextlib.suppress(OSError):
            os.link(aside, path)
    aside.unlink(missing_ok=True)


def _taken(folder: Path, owner: Owner | None) -> InputError:
    if owner is not None and owner.host == socket.gethostname():
        return InputError(
            f"another run, process {owner.pid}, has been writing into {folder} since "
            f"{owner.since}; wait for its end or stop it, or choose another folder"
        )
    who = "another run" if owner is None else f"process {owner.pid} on {owner.host}"
    return InputError(
        f"{who} may be writing into {folder}; if it has ended, delete {folder / LOCK}, or choose "
        "another folder"
    )


def _read(path: Path) -> Owner | None:
    """Read who holds a lock; None where it is not there, or not yet or not rightly written."""
    try:
        return Owner(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def _born(pid: int) -> str | None:
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        # The second field, a name in brackets, may hold anything; the start is the 22nd.
        return text.rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return None
