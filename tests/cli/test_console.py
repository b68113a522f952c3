from __future__ import annotations

import pytest

from ttame.cli import console


def test_progress_away_from_a_terminal_is_a_line_now_and_then(monkeypatch, capsys):
    clock = [0.0]
    monkeypatch.setattr(console.time, "monotonic", lambda: clock[0])
    tell = console.progress_lines("photos", every=60)
    clock[0] = 600  # of preparation
    # Forty of them were finished by an earlier run.
    for seconds, done in ((0, 40), (59, 41), (60, 42), (100, 50), (119, 55), (120, 60)):
        clock[0] = 600 + seconds
        tell(done, 100)
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "progress: 42 of 100 photos, about 29 minutes left",
        "progress: 60 of 100 photos, about 4 minutes left",
    ]


@pytest.mark.usefixtures("terminal")
def test_on_a_terminal_the_bar_tells_it(capsys):
    tell = console.progress_lines("photos", every=0)
    for done in range(3):
        tell(done, 3)
    assert capsys.readouterr().err == ""


@pytest.fixture
def terminal(monkeypatch):
    class Terminal:
        is_terminal = True

    monkeypatch.setattr(console, "stderr", Terminal)
