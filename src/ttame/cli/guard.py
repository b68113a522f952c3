"""Errors as one line: no command ends in a traceback unless ``--debug`` asks for it."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperGroup

from ttame.cli.console import complain, show_log
from ttame.errors import TtameError

FAILED, INTERRUPTED = 1, 130

# What helps against errors that are not ours, by the name of their class.
_ADVICE = {
    "OutOfMemoryError": "out of memory; choose a smaller --batch-size or --device cpu",
    "MemoryError": "out of memory; choose a smaller --batch-size",
}


class GuardedGroup(TyperGroup):
    """A group of commands whose errors become one line and an exit code."""

    def invoke(self, ctx: Any) -> Any:
        """Run the chosen command."""
        with guarded(debug=bool(ctx.params.get("debug"))):
            return super().invoke(ctx)


@contextmanager
def guarded(debug: bool = False) -> Iterator[None]:
    """Turn errors into one line on stderr and an exit code.

    Args:
        debug: Let every exception through, and show all warnings.

    Raises:
        Exit: With 1 after an error and 130 after an interruption.
    """
    show_log()
    try:
        with _quiet(not debug):
            yield
    except KeyboardInterrupt as error:
        complain("stopped", str(error) or "interrupted from the keyboard", "yellow")
        raise typer.Exit(INTERRUPTED) from None
    except Exception as error:
        # The command line's own exceptions carry their exit code; a closed pipe is no failure.
        if debug or hasattr(error, "exit_code") or isinstance(error, typer.Abort | BrokenPipeError):
            raise
        complain("error", _message(error))
        raise typer.Exit(FAILED) from None


def _message(error: Exception) -> str:
    if isinstance(error, TtameError):
        return str(error)
    kind = type(error).__name__
    advice = _ADVICE.get(kind)
    if advice:
        return advice
    return f"unexpected {kind}: {error} (`ttame --debug ...` shows where it comes from)"


def interrupted(out: Path) -> KeyboardInterrupt:
    """Return the interruption of a run that can go on, saying how."""
    return KeyboardInterrupt(
        f"what was finished is in {out}; run the same command with --resume to continue"
    )


@contextmanager
def _quiet(quiet: bool) -> Iterator[None]:
    """Keep warnings of other libraries, which a user of a command cannot act on, to themselves."""
    with warnings.catch_warnings():
        if quiet:
            warnings.simplefilter("ignore")
            for name in ("lightning.pytorch", "lightning.fabric", "pytorch_lightning", "timm"):
                logging.getLogger(name).setLevel(logging.ERROR)
        yield
