"""What the command line says, and where: results on stdout, all else on stderr."""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

if TYPE_CHECKING:
    from rich.progress import Progress

# Width of tables that go to a file or another program; a terminal has its own.
_WIDTH = 160
# Seconds between two lines of progress where no bar can be drawn.
_EVERY = 300.0


def stdout() -> Console:
    """Return the console for results."""
    fixed = sys.stdout.isatty() or "COLUMNS" in os.environ
    return Console(highlight=False, width=None if fixed else _WIDTH)


def stderr() -> Console:
    """Return the console for errors, warnings and progress."""
    return Console(highlight=False, stderr=True)


def say(text: str) -> None:
    """Print one result line as it is, however long, without markup."""
    stdout().print(Text(text), soft_wrap=True)


def complain(kind: str, text: object, style: str = "red") -> None:
    """Print ``kind: text`` as one line on stderr."""
    line = " ".join(str(text).split())
    stderr().print(Text(f"{kind}: {line}", style=style), soft_wrap=True)


def tell_left_out(broken: Iterable[tuple[str, str]]) -> None:
    """Print a line on stderr for each photo that could not be read, with the reason."""
    for file, reason in broken:
        complain("left out", reason if file in reason else f"{file}: {reason}", "yellow")


def progress_bar() -> Progress:
    """Return a bar with counts and times; it draws nothing where stderr is no terminal."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    console = stderr()
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
        # Some steps take minutes: the time left is told from all of the last hour.
        speed_estimate_period=3600,
    )


def progress_lines(name: str, every: float = _EVERY) -> Callable[[int, int], None]:
    """Return what tells the progress where there is no terminal: a line on stderr now and then.

    Args:
        name: What is counted.
        every: Seconds between two lines.
    """
    silent = stderr().is_terminal
    first: tuple[float, int] | None = None
    told = 0.0

    def tell(done: int, total: int) -> None:
        nonlocal first, told
        now = time.monotonic()
        if first is None:  # what an earlier run has done, and the time of preparation, do not count
            first, told = (now, done), now
        start, before = first
        if silent or now - told < every or done == before:
            return
        told = now
        minutes = (now - start) / (done - before) * (total - done) / 60
        complain("progress", f"{done} of {total} {name}, about {minutes:.0f} minutes left", "dim")

    return tell


class _LogLines(logging.Handler):
    """Shows the library's warnings as lines of the command line."""

    def emit(self, record: logging.LogRecord) -> None:
        style = "red" if record.levelno >= logging.ERROR else "yellow"
        complain(record.levelname.lower(), record.getMessage(), style)


def show_log() -> None:
    """Show warnings that the library logs; calling this again changes nothing."""
    logger = logging.getLogger("ttame")
    if not any(isinstance(handler, _LogLines) for handler in logger.handlers):
        logger.addHandler(_LogLines(logging.WARNING))
        logger.propagate = True
