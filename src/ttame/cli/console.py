"""What the command line says, and where: results on stdout, all else on stderr."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

if TYPE_CHECKING:
    from rich.progress import Progress

# Width of tables that go to a file or another program; a terminal has its own.
_WIDTH = 160


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
