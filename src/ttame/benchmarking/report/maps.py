"""A contact sheet as HTML: every map a small picture with its own alternative text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ttame.benchmarking.report.contact import jpeg
from ttame.benchmarking.report.markup import DASH, Html, element, join, picture
from ttame.pictures import COLOUR_MAP

if TYPE_CHECKING:
    from ttame.benchmarking.report.contact import Cell, Row, Sheet


def sheet_section(sheet: Sheet) -> Html:
    """Lay out a sheet, a block per photo; the grid follows the width of the page."""
    return join(colour_legend(), *(_block(row) for row in sheet.rows))


def colour_legend() -> Html:
    """Return the bar that tells what the colours mean."""
    bar = element("span", class_="bar", role="img", aria_label="dark to bright")
    return element(
        "p",
        "Least relevant",
        bar,
        "most relevant; each map on its own scale from 0 to 1.",
        class_="legend",
    )


def bar_style() -> str:
    """Return the colour map as a CSS background."""
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    stops = ", ".join(to_hex(colormaps[COLOUR_MAP](place / 8)) for place in range(9))
    return f"background: linear-gradient(to right, {stops});"


def _block(row: Row) -> Html:
    photo = element(
        "figure",
        element("figcaption", "Photo"),
        picture(jpeg(row.photo), f"Photo: {row.title}"),
        class_="photo",
    )
    note = element("p", row.note, class_="faint") if row.note else ""
    cells = element("div", photo, *(_map(cell, row) for cell in row.cells), class_="maps")
    return join(element("h3", row.title), note, cells)


def _map(cell: Cell, row: Row) -> Html:
    title = element("figcaption", cell.title)
    if cell.image is None:
        return element("figure", title, element("div", DASH, class_="none", title=cell.reason))
    return element("figure", title, picture(jpeg(cell.image), f"{cell.title}, map for {row.title}"))
