from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from ttame.methods.registry import get_method

OUTSIDE = """
from ttame.methods.registry import register

@register(name="outside", title="Outside", control=True)
def outside(backbone, images, classes):
    return images.new_zeros(*classes.shape, 2, 2)
"""


@pytest.fixture
def outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "outside_method.py").write_text(OUTSIDE)
    monkeypatch.syspath_prepend(tmp_path)
    import outside_method

    yield tmp_path
    from ttame.methods import registry

    registry._METHODS.entries.pop("outside")
    sys.modules.pop(outside_method.__name__)


def test_a_method_registered_elsewhere_reaches_another_process(outside: Path):
    content = pickle.dumps(get_method("outside"))
    assert pickle.loads(content).title == "Outside"
    (outside / "method.pickle").write_bytes(content)
    script = (
        f"import sys, pickle; sys.path.insert(0, {str(outside)!r})\n"
        f"print(pickle.loads(open({str(outside / 'method.pickle')!r}, 'rb').read()).title)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], check=False, capture_output=True, text=True
    )
    assert done.stdout.strip() == "Outside", done.stderr
