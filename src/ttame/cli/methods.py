"""``ttame methods``: what an explainer can be compared with."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ttame.cli.console import stdout

if TYPE_CHECKING:
    from ttame.methods.registry import Method

_MARKS = """\
control: explains nothing, but shows what a score is worth
explainer: is trained (ttame train) and takes part as an explainer folder
slow: explains only the first few photos of a set, unless all are asked for"""


def methods() -> None:
    """List the comparison methods: what they need, what they cost, where they were published."""
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    from ttame.methods.registry import methods as registered
    from ttame.methods.trained import COST, TRAINED

    table = Table(box=box.SIMPLE_HEAD, caption=_MARKS, caption_justify="left")
    table.add_column("name", style="bold", no_wrap=True)
    for heading in ("title", "needs", "cost per photo", "paper"):
        table.add_column(heading, overflow="fold")
    rows = [
        (method.name, method.title, _needs(method), _cost(method), method.paper)
        for method in registered().values()
    ]
    rows += [
        (name, trained.title, f"explainer ({trained.option})", COST, trained.paper)
        for name, trained in TRAINED.items()
    ]
    for row in sorted(rows):
        table.add_row(*(escape(cell) for cell in row))
    stdout().print(table)


def _needs(method: Method) -> str:
    from ttame.errors import InputError

    try:
        method.check_packages()
    except InputError:
        missing = f"not installed: {', '.join(method.packages)}"
        return "; ".join([*method.needs, missing])
    return ", ".join(method.needs)


def _cost(method: Method) -> str:
    marks = {"control": method.control, "slow": method.slow}
    shown = ", ".join(mark for mark, holds in marks.items() if holds)
    return f"{method.cost} ({shown})".strip() if shown else method.cost
