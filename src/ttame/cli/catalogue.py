"""Tables of what is registered, for the commands that list it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table


def catalogue(headings: Sequence[str], rows: Iterable[Sequence[str]], notes: str) -> Table:
    """Lay out what is registered, a row an entry.

    Args:
        headings: Of the columns; the first has the names, which are never broken.
        rows: Cells of each entry, plain text.
        notes: What stands below the table.

    Returns:
        A table that gets narrow by folding all cells but the names.

    Example:
        >>> catalogue(["name", "needs"], [["rise", "masks"]], "masks: many passes").row_count
        1
    """
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, caption=notes, caption_justify="left")
    name, *others = headings
    table.add_column(name, style="bold", no_wrap=True)
    for heading in others:
        table.add_column(heading, overflow="fold")
    for row in rows:
        table.add_row(*(escape(cell) for cell in row))
    return table


def marked(cost: str, marks: Mapping[str, bool]) -> str:
    """Add the marks that hold to what something costs.

    Example:
        >>> marked("500 masked passes", {"control": False, "slow": True})
        '500 masked passes (slow)'
        >>> marked("", {"control": True, "slow": False})
        '(control)'
    """
    shown = ", ".join(mark for mark, holds in marks.items() if holds)
    return f"{cost} ({shown})".strip() if shown else cost
