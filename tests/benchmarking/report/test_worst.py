from __future__ import annotations

import math

import pandas as pd
import pytest

from ttame.benchmarking.report.worst import worst_cases
from ttame.errors import UnknownNameError

VALUES = {
    "ttame": {"a": 90.0, "b": 80.0, "c": 50.0, "d": 10.0, "e": math.nan},
    "rise": {"a": 85.0, "b": 90.0, "c": 5.0, "d": 1.0, "e": 0.0},
}
TABLE = pd.DataFrame(
    [(file, name, value) for name, row in VALUES.items() for file, value in row.items()],
    columns=["file", "method", "ad_50"],
)


def files(*arguments, **options):
    return [case.file for case in worst_cases(TABLE, *arguments, **options)]


def test_worst_values_first_then_losses_to_the_rival():
    # Losses: a 5, c 45, d 9; a is there already.
    assert files("ttame", "ad_50", False, "rise", count=2) == ["a", "b", "c", "d"]
    assert files("ttame", "ad_50", False, count=3) == ["a", "b", "c"]
    notes = [case.note for case in worst_cases(TABLE, "ttame", "ad_50", False, "rise", 1)]
    assert "90" in notes[0]
    assert "50" in notes[1]
    assert "against 5" in notes[1]


def test_direction_and_missing_values():
    # Higher is better: the low ones are bad, and a method that is better loses nothing.
    assert files("ttame", "ad_50", True, count=2) == ["d", "c"]
    assert files("ttame", "ad_50", True, "rise", count=5) == ["d", "c", "b", "a"]
    assert "e" not in files("ttame", "ad_50", False, "rise", count=9)


def test_unknown_names():
    with pytest.raises(UnknownNameError, match="metric"):
        files("ttame", "ad_51", False)
    with pytest.raises(UnknownNameError, match="method"):
        files("ttame", "ad_50", False, "rice")
