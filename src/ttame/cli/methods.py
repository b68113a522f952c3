"""``ttame methods``: what an explainer can be compared with."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ttame.cli.catalogue import catalogue, tell_options, with_marks
from ttame.cli.console import stdout

if TYPE_CHECKING:
    from ttame.methods.registry import Method

_MARKS = """\
control: explains nothing, but shows what a score is worth
explainer: is trained (ttame train) and takes part as an explainer folder
slow: explains only the first few photos of a set (--slow-images, --limit)"""


def methods() -> None:
    """List the comparison methods: needs, cost, where published, and their options."""
    from ttame.methods.registry import methods as registered
    from ttame.methods.trained import COST, TRAINED

    known = registered().values()
    rows = [
        (method.name, method.title, _needs(method), _cost(method), method.paper) for method in known
    ]
    rows += [
        (name, trained.title, f"explainer ({trained.option})", COST, trained.paper)
        for name, trained in TRAINED.items()
    ]
    headings = ("name", "title", "needs", "cost per photo", "paper")
    stdout().print(catalogue(headings, sorted(rows), _MARKS))
    tell_options(known)


def _needs(method: Method) -> str:
    from ttame.errors import InputError

    try:
        method.check_packages()
    except InputError:
        missing = f"not installed: {', '.join(method.packages)}"
        return "; ".join([*method.needs, missing])
    return ", ".join(method.needs)


def _cost(method: Method) -> str:
    return with_marks(method.cost, {"control": method.control, "slow": method.slow})
