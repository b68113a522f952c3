"""Matplotlib figures as inline SVG that takes its ink from the page: light, dark or print."""

from __future__ import annotations

import html
import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ttame.benchmarking.report.markup import printable

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Figures are drawn in these, and the page's own colours stand in their place afterwards.
INK, FAINT, LINE, PAPER = "#010203", "#010204", "#010205", "#fdfcfb"
_THEME = {
    INK: "currentColor",
    FAINT: "var(--faint)",
    LINE: "var(--line)",
    PAPER: "var(--paper)",
}
_RC = {
    "svg.fonttype": "none",  # text stays text: sharp, selectable and read aloud
    "svg.hashsalt": "ttame",
    "font.family": ["DejaVu Sans"],
    "font.size": 9.0,
    "text.color": INK,
    "text.parse_math": False,  # a dollar in a name is a dollar
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "axes.titlesize": 10.0,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": LINE,
    "grid.linewidth": 0.6,
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "legend.frameon": False,
    "legend.fontsize": 8.0,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
}


@contextmanager
def theme() -> Iterator[None]:
    """Draw figures in the colours that :func:`to_svg` hands over to the page."""
    import matplotlib

    with matplotlib.rc_context(_RC):
        yield


def to_svg(figure: Figure, name: str, alt: str) -> str:
    """Return a figure as an SVG element that can stand in a page beside others.

    Args:
        figure: Drawn under :func:`theme`; no window or global state is needed.
        name: Put before every id, because ids are shared by the whole page.
        alt: What the figure shows, for those who cannot see it.

    Returns:
        One ``<svg>`` element as wide as its place, the same bytes for the same figure.
    """
    buffer = io.StringIO()
    with theme():
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    # The drawing follows the width of the page; its height follows from the view box.
    head, body = text.split(">", 1)
    box = re.search(r'viewBox="[^"]*"', head)
    body = re.sub(r'\bid="', f'id="{name}-', body)
    body = re.sub(r'href="#', f'href="#{name}-', body)
    body = re.sub(r"url\(#", f"url(#{name}-", body)
    for drawn, themed in _THEME.items():
        body = body.replace(drawn, themed)
    label = html.escape(printable(alt), quote=True)
    # A little larger than on paper, and never blown up: text has one size in all figures.
    width = round(figure.get_size_inches()[0] * 110)
    return (
        f'<svg {box.group() if box else ""} style="max-width: {width}px" role="img" '
        f'aria-label="{label}" '
        f'xmlns:xlink="http://www.w3.org/1999/xlink">{body}'.rstrip()
    )
