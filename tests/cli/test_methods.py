from __future__ import annotations

import sys

from ttame.cli.assignments import read_options, with_options
from ttame.methods.registry import methods
from ttame.methods.trained import TRAINED


def _row(text, name):
    return next(line for line in text.splitlines() if line.split()[:1] == [name])


def test_every_method_has_its_row(call):
    result = call("methods")
    assert result.exit_code == 0, result.output
    for method in methods().values():
        row = _row(result.stdout, method.name)
        for text in (method.title, method.cost, ", ".join(method.needs)):
            assert text in row
        assert ("(control" in row) == method.control
        assert ("slow)" in row) == method.slow
        assert method.paper.split(",")[0] in row
    for name, trained in TRAINED.items():
        row = _row(result.stdout, name)
        for text in (trained.title, f"explainer ({trained.option})", trained.paper.split(",")[0]):
            assert text in row
    assert "control: explains nothing" in result.stdout
    assert "explainer: is trained" in result.stdout
    assert "slow: explains only the first few photos" in result.stdout


def test_every_option_can_be_given_back(call):
    lines = [line.strip() for line in call("methods").stdout.splitlines()]
    expected = {m.name: dict(m.options) for m in methods().values() if m.options}
    texts = [line for line in lines if line.partition(".")[0] in expected and "=" in line]
    given = read_options(texts)
    assert {name: with_options(methods()[name], given).options for name in expected} == expected
    assert not given


def test_it_fits_a_narrow_terminal(call, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    lines = call("methods").stdout.splitlines()
    assert max(map(len, lines)) <= 100
    assert _row("\n".join(lines), "integrated_gradients")


def test_a_missing_package_is_named(call, monkeypatch):
    monkeypatch.setitem(sys.modules, "captum", None)
    text = call("methods").stdout
    assert "gradients; not installed: captum" in _row(text, "saliency")
    assert "not installed" not in _row(text, "smoothgrad")


def test_explaining_methods_say_what_they_cost_and_where_they_were_published():
    for method in methods().values():
        assert method.control or (method.cost and method.paper), method.name
