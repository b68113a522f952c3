"""Finished work on disk: one line a unit, written whole, read back whatever happened meanwhile."""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ttame.errors import StorageError

if TYPE_CHECKING:
    from ttame.benchmarking.parts import Part

_log = logging.getLogger(__name__)

NOT_POSSIBLE, FAILED = "not possible", "failed"
"""Kinds of error that stop a method: what a classifier cannot do, and any other."""


class Unit(NamedTuple):
    """One piece of work: one method on one batch of one set of photos."""

    photo_set: str
    batch: int
    method: str


def record_path(folder: Path, writer: int | Part | None = None) -> Path:
    """Return the file that a process appends to; None stands for a run in one process."""
    return folder / ("records.jsonl" if writer is None else f"records-{writer}.jsonl")


def worth_another_try(record: Mapping[str, Any]) -> bool:
    """Tell whether another run may do better: a method, or a measure, failed unexpectedly.

    Example:
        >>> worth_another_try({"error": [NOT_POSSIBLE, "no attention in this classifier"]})
        False
        >>> worth_another_try({"failed": ["road"]})
        True
    """
    return record.get("error", [""])[0] == FAILED or bool(record.get("failed"))


def read_records(folder: Path) -> dict[Unit, dict[str, Any]]:
    """Read the finished units of every process that ever worked in the folder.

    A last line that a killed process left unfinished is not counted. Of a unit that was tried
    several times the complete record counts, or, while there is none, the last one.

    Raises:
        StorageError: A file cannot be read.
    """
    found: dict[Unit, dict[str, Any]] = {}
    for path in sorted(folder.glob("records*.jsonl")):
        for record in _lines(path):
            unit = Unit(*record["unit"])
            if unit not in found or _rank(record) > _rank(found[unit]):
                found[unit] = record
    return found


class RecordFile:
    """A file that finished units are appended to, each in one write that survives a crash.

    Args:
        path: Made where it is missing; an unfinished last line is cut off first.

    Raises:
        StorageError: The file cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            _cut_torn_line(path)
            self._file = path.open("ab", buffering=0)
        except OSError as error:
            raise StorageError(f"cannot write {path}: {error.strerror or error}") from error

    def append(self, unit: Unit, content: dict[str, Any]) -> None:
        """Write a finished unit; it is on disk when this returns.

        Raises:
            StorageError: The disk is full, or the file cannot be written.
        """
        record = {"unit": list(unit), "written": time.time(), **content}
        line = json.dumps(record, separators=(",", ":")) + "\n"
        data = line.encode()
        try:
            # Unbuffered: the line goes out in one write.
            if self._file.write(data) != len(data):
                raise OSError("the disk took a part of a record only")
            os.fsync(self._file.fileno())
        except OSError as error:
            raise StorageError(f"cannot write {self._path}: {error.strerror or error}") from error

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _rank(record: Mapping[str, Any]) -> tuple[bool, float]:
    complete = "error" not in record and not record.get("failed")
    return complete, float(record.get("written", 0))


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error.strerror or error}") from error
    for line in content.split(b"\n")[:-1]:
        try:
            record = json.loads(line)
            Unit(*record["unit"])
        except (ValueError, KeyError, TypeError):
            _log.warning("%s holds a damaged record; its photos are computed again", path)
            continue
        yield record


def _cut_torn_line(path: Path) -> None:
    if not path.exists():
        return
    with path.open("rb+") as file:
        content = file.read()
        file.truncate(content.rfind(b"\n") + 1)
        file.flush()
        os.fsync(file.fileno())


def plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """Turn values into what JSON can hold: objects become texts, NaN and infinity None.

    Example:
        >>> plain({"shares": (1.0, 0.5), "loss": float("nan")})
        {'shares': [1.0, 0.5], 'loss': None}
    """
    text = json.dumps(dict(values), default=str)
    turned: dict[str, Any] = json.loads(text, parse_constant=lambda _: None)
    return turned
