"""The sweep's results: one JSON object a line, the last one of a model counts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

Record = dict[str, Any]


def append(record: Record, file: Path) -> None:
    """Add a record; it is on the disk when this returns."""
    with file.open("a", encoding="utf-8") as lines:
        lines.write(json.dumps(record) + "\n")


def latest(file: Path) -> dict[str, Record]:
    """Read the last record of every model, by library and model; a torn line is left out."""
    found: dict[str, Record] = {}
    for line in file.read_text(encoding="utf-8").splitlines() if file.is_file() else []:
        try:
            record: Record = json.loads(line)
        except ValueError:  # the run was killed while it wrote
            continue
        found[f"{record['library']}/{record['model']}"] = record
    return found
