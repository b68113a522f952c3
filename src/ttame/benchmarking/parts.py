"""Parts of a run, each computed by a process of its own, on any machine that sees the folder."""

from __future__ import annotations

from typing import NamedTuple

from ttame.errors import InputError


class Part(NamedTuple):
    """The ``number``-th of ``total`` parts of a run, counted from 1.

    Example:
        >>> str(parse_part("2/8"))
        '2-of-8'
    """

    number: int
    total: int

    def __str__(self) -> str:
        """Return the part as it stands in the names of its files."""
        return f"{self.number}-of-{self.total}"


def parse_part(text: str) -> Part:
    """Read ``"2/8"``, the second of eight parts.

    Raises:
        InputError: It is no such text, or there is no such part.
    """
    number, _, total = text.partition("/")
    if number.isdecimal() and total.isdecimal():
        part = Part(int(number), int(total))
        if 1 <= part.number <= part.total:
            return part
    raise InputError(f"expected a part such as 1/8, from 1/8 to 8/8, got {text!r}")
