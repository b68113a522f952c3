from __future__ import annotations

import re

import pytest

from ttame.benchmarking.choosing import choose_measures
from ttame.cli.assignments import read_options, with_options
from ttame.cli.metrics import _NEEDS
from ttame.errors import InputError
from ttame.metrics.measure import NEEDS, Measure, measures


def _row(text, *names):
    return next(line for line in text.splitlines() if line.split()[: len(names)] == [*names])


def test_every_measure_has_its_row(call):
    result = call("metrics")
    assert result.exit_code == 0, result.output
    for measure in measures().values():
        row = _row(result.stdout, *f"{measure.name} {measure.title}".split())
        cost = f"   {measure.passes(measure.options)}{' (slow)' if measure.slow else ''}   "
        for text in (cost, ", ".join(_NEEDS[need] for need in measure.needs)):
            assert text in row
        assert measure.paper.split(",")[0] in row
    for mark in ("explains again: ", "passes: of the classifier", "slow: scores only the first"):
        assert mark in result.stdout


def test_every_metric_has_its_row(call):
    text = call("metrics").stdout
    for measure in measures().values():
        for name, metric in measure.metrics(measure.options).items():
            better = {True: "↑", False: "↓", None: "neither"}[metric.higher_is_better]
            cells = [name, measure.name, better, metric.unit, *metric.title.split()]
            assert _row(text, name, measure.name).split() == [cell for cell in cells if cell]


def test_printed_options_can_be_set(call):
    known = measures()
    lines = [line.strip() for line in call("metrics").stdout.splitlines()]
    texts = [line for line in lines if line.partition(".")[0] in known and "=" in line]
    parsed = read_options(texts)
    assert len(texts) == sum(len(measure.options) for measure in known.values())
    for name, measure in known.items():
        assert set(parsed.get(name, {})) == set(measure.options)
        assert with_options(measure, parsed).options == measure.options
    assert not parsed


def test_it_fits_a_narrow_terminal(call, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    lines = call("metrics").stdout.splitlines()
    assert max(map(len, lines)) <= 80
    text = "\n".join(lines)
    assert _row(text, "insertion_deletion", "Insertion")
    assert _row(text, "transfer_ad_100_matched", "transfer")
    assert _row(text, "deletion", "insertion_deletion")
    assert _row(text, 'insertion_deletion.insertion_fill="blur"')


def test_options_are_never_broken(call, monkeypatch):
    long = Measure("long", "Long", print, lambda _: {}, options={"texts": ["[/] grün"] * 20})
    monkeypatch.setattr("ttame.metrics.measure.measures", lambda: {"long": long})
    monkeypatch.setenv("COLUMNS", "40")
    lines = call("metrics").stdout.splitlines()
    assert read_options([lines[-1]]) == {"long": long.options}


def test_needs_are_told_by_the_options_that_serve_them(call):
    assert set(_NEEDS) == set(NEEDS)
    options = call("benchmark", "--help").stdout
    for measure in measures().values():
        for option in re.findall(r"--\w+", " ".join(_NEEDS[need] for need in measure.needs)):
            assert option in options
            with pytest.raises(InputError, match=option):
                choose_measures([measure.name], boxes=False, judge=False)
