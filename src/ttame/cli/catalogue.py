"""Tables of what is registered, for the commands that list it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from ttame.cli.console import say

if TYPE_CHECKING:
    from rich.table import Table

    from ttame.registry import Entry


def catalogue(
    headings: Sequence[str], rows: Iterable[Sequence[str]], notes: str, names: int = 1
) -> Table:
    """Lay out what is registered, a row an entry.

    Args:
        headings: Of the columns.
        rows: Cells of each entry, plain text.
        notes: What stands below the table.
        names: How many of the first columns hold names; names are not broken.

    Returns:
        A table that gets narrow by folding the other cells.

    Example:
        >>> catalogue(["name", "needs"], [["rise", "masks"]], "masks: many passes").row_count
        1
    """
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, caption=notes, caption_justify="left")
    for place, heading in enumerate(headings):
        style = "bold" if place == 0 else None
        table.add_column(heading, style=style, overflow="fold", no_wrap=place < names)
    for row in rows:
        table.add_row(*(escape(cell) for cell in row))
    return table


def with_marks(cost: str, marks: Mapping[str, bool]) -> str:
    """Add the marks that hold to what something costs.

    Example:
        >>> with_marks("500 masked passes", {"control": False, "slow": True})
        '500 masked passes (slow)'
        >>> with_marks("", {"control": True, "slow": False})
        '(control)'
    """
    shown = ", ".join(mark for mark, holds in marks.items() if holds)
    return f"{cost} ({shown})".strip() if shown else cost


def tell_options(entries: Iterable[Entry]) -> None:
    """Print the options of methods or measures, a line each."""
    say("\n  options with their defaults, as --set takes them (in a shell, in quotes)\n")
    for entry in entries:
        for text in option_texts(entry):
            say(f"  {text}")


def option_texts(entry: Entry) -> list[str]:
    """Write the options of a measure or method as ``--set`` takes them; values are JSON.

    Example:
        >>> from ttame.metrics.measure import get_measure
        >>> option_texts(get_measure("transfer"))
        ['transfer.shares=[1.0, 0.5, 0.15]', 'transfer.fill="black"']
    """
    return [
        f"{entry.name}.{option}={json.dumps(value, ensure_ascii=False, default=str)}"
        for option, value in entry.options.items()
    ]
