from __future__ import annotations

import pytest

from ttame.cli.assignments import read_options, with_options
from ttame.errors import InputError, UnknownNameError
from ttame.metrics.measure import get_measure


def test_values_take_the_type_of_the_option():
    measure = get_measure("confidence")
    changed = with_options(
        measure, read_options(["confidence.shares=[1, 0.25]", "confidence.rule=exact"])
    )
    assert changed.options == {**measure.options, "shares": (1, 0.25), "rule": "exact"}
    with pytest.raises(InputError, match="type str"):
        with_options(measure, read_options(["confidence.rule=1"]))
    with pytest.raises(UnknownNameError):
        with_options(measure, read_options(["confidence.rules=1"]))
