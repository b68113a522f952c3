"""``ttame methods``: what an explainer can be compared with."""

from __future__ import annotations

from ttame.cli.console import stdout


def methods() -> None:
    """List the methods that `ttame evaluate --methods` knows."""
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    from ttame.errors import InputError
    from ttame.methods.registry import methods as registered

    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("name", style="bold", no_wrap=True)
    for heading in ("title", "needs", "paper"):
        table.add_column(heading)
    for method in registered().values():
        needs = ", ".join(method.needs)
        try:
            method.check_packages()
        except InputError:
            needs += f" (not installed: {', '.join(method.packages)})"
        title = f"{method.title} (control)" if method.control else method.title
        table.add_row(*(escape(cell) for cell in (method.name, title, needs, method.paper)))
    stdout().print(table)
