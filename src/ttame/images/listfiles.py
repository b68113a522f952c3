"""Text and CSV files that list photos, with labels where they give them."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

from ttame.errors import InputError

Entry: TypeAlias = "tuple[str, int | None]"
"""A path as written, and the class index or None."""

PATH_COLUMNS = ("file", "path", "image", "filename")
LABEL_COLUMNS = ("label", "imagenet_label")


def read_text(path: Path) -> list[Entry]:
    """Read one path a line, optionally followed by white space and an integer label.

    Blank lines and lines starting with ``#`` are skipped; a negative label is not known. Paths may
    contain spaces.

    Raises:
        InputError: The file cannot be read as UTF-8 text.
    """
    entries: list[Entry] = []
    for line in _text(path).split("\n"):
        words = line.strip()
        if not words or words.startswith("#"):
            continue
        parts = words.rsplit(maxsplit=1)
        if len(parts) == 2 and parts[1].lstrip("-").isdecimal():
            entries.append((parts[0].rstrip(), _label(parts[1])))
        else:
            entries.append((words, None))
    return entries


def read_csv(path: Path) -> list[Entry]:
    """Read a CSV file with a header; comma, semicolon or tab separates.

    The column ``file``, ``path``, ``image`` or ``filename`` gives the path; ``label`` or
    ``imagenet_label``, if there, the label (empty, "nan" or negative: not known).

    Raises:
        InputError: No such column, an empty path, a label that is not a whole number, or the file
            cannot be read as UTF-8 text.
    """
    columns, rows = csv_rows(path)
    file, label = find_column(columns, PATH_COLUMNS), find_column(columns, LABEL_COLUMNS)
    if file is None:
        raise InputError(
            f"CSV {str(path)!r} has the columns {columns}; expected one of "
            f"{', '.join(PATH_COLUMNS)}"
        )
    return [_entry(row, file, label, f"CSV {str(path)!r}, line {line}") for line, row in rows]


def csv_rows(path: Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """Split a CSV file with a header into cells; comma, semicolon or tab separates.

    Returns:
        The names of the columns in lower case, and the number and cells of every line that is not
        blank; a line may be shorter than the header.

    Raises:
        InputError: The file cannot be read as UTF-8 text, or is malformed.
    """
    lines = _text(path).splitlines(keepends=True)
    header = lines[0] if lines else ""
    rows = csv.reader(lines, delimiter=max(",;\t", key=header.count))
    try:
        columns = [name.strip().lower() for name in next(rows, [])]
        return columns, [(rows.line_num, row) for row in rows if any(cell.strip() for cell in row)]
    except csv.Error as error:
        raise InputError(f"CSV {str(path)!r} is malformed ({error}); save it again") from None


READERS: dict[str, Callable[[Path], list[Entry]]] = {
    ".csv": read_csv,
    ".txt": read_text,
    ".lst": read_text,
    ".list": read_text,
}
"""How each kind of list is read, by file name ending."""


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"list of photos {str(path)!r} cannot be read ({error}); save it as UTF-8 text"
        ) from None


def find_column(columns: list[str], wanted: tuple[str, ...]) -> int | None:
    """Return the place of the first wanted column that there is, or None."""
    return next((columns.index(name) for name in wanted if name in columns), None)


def cell(row: list[str], column: int | None) -> str:
    """Return a line's cell, stripped; empty where the column or the cell is not there."""
    return row[column].strip() if column is not None and column < len(row) else ""


def label_of(text: str, where: str) -> int | None:
    """Read a class index; empty, "nan" or negative: not known.

    Args:
        text: The cell.
        where: File and line, for the message.

    Raises:
        InputError: The label is not a whole number.
    """
    try:
        return _label(text)
    except (ValueError, OverflowError):
        raise InputError(
            f"{where}: expected a class index, got the label {text!r}; give whole numbers or "
            "rename the column"
        ) from None


def _entry(row: list[str], file: int, label: int | None, where: str) -> Entry:
    name = cell(row, file)
    if not name:
        raise InputError(f"{where} names no photo; fill in or delete the line")
    return name, label_of(cell(row, label), where)


def _label(text: str) -> int | None:
    if text.lower() in ("", "nan", "none"):
        return None
    number = float(text)  # pandas writes 3.0 where other rows have no label
    if not number.is_integer():
        raise ValueError(text)
    return int(number) if number >= 0 else None
