from __future__ import annotations

from types import SimpleNamespace

from lightning.pytorch.callbacks import RichProgressBar

from ttame.training.progress import Progress


def test_the_bar_shows_the_terms_and_no_version_number(monkeypatch):
    shown = {"loss": 1.0, "mask_area": 0.4, "v_num": "oard"}
    monkeypatch.setattr(RichProgressBar, "get_metrics", lambda *_: dict(shown))
    metrics = Progress().get_metrics(SimpleNamespace(), SimpleNamespace())
    assert metrics == {"loss": 1.0, "mask_area": 0.4}
