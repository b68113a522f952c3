"""HTML that cannot be broken by names: everything that is not markup already is escaped."""

from __future__ import annotations

import base64
import html
from collections.abc import Mapping
from typing import Any

DASH = "\N{EN DASH}"


class Html(str):
    """Text that is markup already."""

    __slots__ = ()


def element(name: str, *children: object, **attributes: Any) -> Html:
    """Return an element; children that are no :class:`Html` are escaped, as is every attribute.

    Args:
        name: Of the element.
        *children: What stands in it; anything is turned into text.
        **attributes: A trailing underscore is dropped, others become hyphens; None leaves out.

    Example:
        >>> element("p", "a < b", element("b", 1), class_="x")
        '<p class="x">a &lt; b<b>1</b></p>'
    """
    parts = [
        f' {key.rstrip("_").replace("_", "-")}="{html.escape(printable(value), quote=True)}"'
        for key, value in attributes.items()
        if value is not None
    ]
    inside = "".join(escaped(child) for child in children)
    return Html(f"<{name}{''.join(parts)}>{inside}</{name}>")


def escaped(value: object) -> Html:
    """Return a value as markup.

    Example:
        >>> escaped("<script>"), escaped(Html("<br>"))
        ('&lt;script&gt;', '<br>')
    """
    return value if isinstance(value, Html) else Html(html.escape(printable(value), quote=True))


def printable(value: object) -> str:
    """Return a value as text that a page can hold: file names may hold surrogates and controls."""
    text = str(value).encode("utf-8", "replace").decode()
    return "".join(
        char if char.isprintable() or char in "\n\t" else "\N{REPLACEMENT CHARACTER}"
        for char in text
    )


def join(*parts: object) -> Html:
    """Return parts one after the other, escaped where they are no markup."""
    return Html("".join(escaped(part) for part in parts))


def picture(data: bytes, alt: str, kind: str = "jpeg") -> Html:
    """Return an image element that holds its bytes itself; void, so it has no end tag."""
    source = f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
    text = html.escape(printable(alt), quote=True)
    return Html(f'<img src="{source}" alt="{text}" loading="lazy">')


def nested(value: object) -> Html:
    """Return settings as a list of definitions, lists and mappings as deep as they go.

    Example:
        >>> nested({"fill": "black", "shares": [1.0, 0.5]})
        '<dl><dt>fill</dt><dd>black</dd><dt>shares</dt><dd>1, 0.5</dd></dl>'
    """
    if isinstance(value, Mapping):
        if not value:
            return Html(DASH)
        pairs = [
            join(element("dt", str(key).replace("_", " ")), element("dd", nested(item)))
            for key, item in value.items()
        ]
        return element("dl", *pairs)
    if isinstance(value, list | tuple):
        if any(isinstance(item, Mapping) for item in value):
            return element("ul", *(element("li", nested(item)) for item in value))
        return Html(", ".join(nested(item) for item in value) or DASH)
    if isinstance(value, float):
        return escaped(f"{value:g}")
    return escaped(DASH if value is None or value == "" else value)
