"""One colour, dash and marker per method, the same in every figure of a report."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

# Of middle lightness, so that they show on white and on black; the first is the explainer's.
_COLOURS = (
    "#d7263d",
    "#2f7fd1",
    "#2b9a66",
    "#9a5fc7",
    "#d98218",
    "#1a9fb0",
    "#d4559b",
    "#98704a",
    "#8c9421",
    "#6470d8",
)
_GREYS = ("#8b8f96", "#a3a7ad", "#767a80")
_DASHES: tuple[Any, ...] = ("-", (0, (4, 1.5)), (0, (1, 1.2)), (0, (5, 1.2, 1, 1.2)))
_MARKERS = "osD^vPX*"
_CONTROL_MARKERS = "x+12"


class Style(NamedTuple):
    """How a method is drawn.

    Attributes:
        colour: Hexadecimal.
        dash: Line style as matplotlib takes it.
        marker: Marker as matplotlib takes it.
        width: Line width in points; the explainer's line is the widest.
        order: Drawing order: controls below, the explainer on top.
    """

    colour: str
    dash: Any
    marker: str
    width: float
    order: float


def method_styles(methods: Mapping[str, Mapping[str, Any]]) -> dict[str, Style]:
    """Give every method its style, by its place among the methods; controls are grey.

    Args:
        methods: Details by name, the explainer first; ``control`` marks controls.

    Returns:
        One style per method; no two look alike up to 40 methods.

    Example:
        >>> styles = method_styles({"ttame": {}, "random": {"control": True}})
        >>> styles["ttame"].width > styles["random"].width
        True
    """
    styles: dict[str, Style] = {}
    rivals = controls = 0
    for name, details in methods.items():
        if details.get("control"):
            dash = _DASHES[1 + controls % (len(_DASHES) - 1)]
            marker = _CONTROL_MARKERS[controls % len(_CONTROL_MARKERS)]
            styles[name] = Style(_GREYS[controls % len(_GREYS)], dash, marker, 1.1, 2.0)
            controls += 1
        else:
            turn, place = divmod(rivals, len(_COLOURS))
            dash = _DASHES[turn % len(_DASHES)]
            # Markers also differ within a turn: for eyes and prints that see no colours.
            marker = _MARKERS[(place + turn * 3) % len(_MARKERS)]
            first = rivals == 0
            styles[name] = Style(
                _COLOURS[place], dash, marker, 2.4 if first else 1.3, 4.0 if first else 3.0
            )
            rivals += 1
    return styles
