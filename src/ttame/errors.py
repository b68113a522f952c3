"""Every error that ttame raises on purpose: what was expected, what came, what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class TtameError(Exception):
    """Base of all errors raised by ttame; the command line shows its message as one line."""


class InputError(TtameError, ValueError):
    """An argument has a wrong type, shape, length or value."""


class UnknownNameError(InputError):
    """A model, layer, class, method or preset is not known by the given name."""


class ImageError(InputError):
    """A photo cannot be read: missing, empty, truncated, too large or not an image."""


class BackboneError(TtameError):
    """A classifier cannot be loaded or has no feature maps that ttame can use."""


class StorageError(TtameError):
    """An explainer folder is incomplete, unreadable, unwritable or made for another classifier."""


class TrainingError(TtameError):
    """A training cannot start or had to stop; finished work is kept."""


def first_line(error: Exception) -> str:
    """Return the first line of a message that is not blank; the error's kind where there is none.

    Example:
        >>> first_line(ValueError("no such size at line 3")), first_line(KeyError())
        ('no such size at line 3', 'KeyError')
    """
    lines = (line.strip() for line in str(error).splitlines())
    return next(filter(None, lines), type(error).__name__)


def problem(error: Exception) -> str:
    """Say in one line what went wrong, with the kind of error where it is not one of ours.

    Example:
        >>> problem(InputError("no photos")), problem(ValueError("no such size"))
        ('no photos', 'ValueError: no such size')
    """
    text = " ".join(str(error).split())
    return text if isinstance(error, TtameError) else f"{type(error).__name__}: {text}"


def unknown_name(
    kind: str, name: object, valid: Iterable[str], advice: str = ""
) -> UnknownNameError:
    """Make the error for an unknown name, with the nearest valid names.

    Args:
        kind: What the name stands for, for example ``"layer"``.
        name: The name that came.
        valid: All names that would have been right.
        advice: What else to do, appended as a sentence.

    Returns:
        The error, to be raised by the caller.

    Example:
        >>> print(unknown_name("head", "tide", ["tied", "independent"]))
        unknown head 'tide'; did you mean 'tied'?
    """
    choices = list(valid)
    by_lower = {choice.lower(): choice for choice in choices}
    text = str(name).lower()
    near = [by_lower[match] for match in difflib.get_close_matches(text, by_lower, n=3, cutoff=0.6)]
    near += [c for c in choices if text and text in c.lower() and c not in near][: 3 - len(near)]
    message = f"unknown {kind} {name!r}"
    if near:
        message += "; did you mean " + " or ".join(repr(match) for match in near) + "?"
    elif choices:
        shown = ", ".join(choices[:12]) + (", ..." if len(choices) > 12 else "")
        message += f"; valid: {shown}"
    return UnknownNameError(f"{message} {advice}".rstrip())
