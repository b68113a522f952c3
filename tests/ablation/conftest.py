from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import ttame
from tiny_backbone import TINY_TRAINING, tiny_backbone, tiny_photos
from ttame.ablation.result import AblationResult


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """16 photos to train on and 5 others to score on."""
    root = tmp_path_factory.mktemp("ablation")
    training = tiny_photos(root / "training", 21)
    (root / "scoring").mkdir()
    for path in sorted(training.iterdir())[16:]:
        path.rename(root / "scoring" / path.name)
    return training, root / "scoring"


@pytest.fixture
def content(folders: tuple[Path, Path]) -> Callable[..., dict[str, Any]]:
    """Return an ablation's content; the classifier is the tiny one."""

    def make(*cells: dict[str, Any], **values: Any) -> dict[str, Any]:
        return {
            "model": tiny_backbone(classes=3),
            "data": folders[0],
            "eval_data": folders[1],
            "settings": TINY_TRAINING,
            "cells": list(cells) or [{"name": "base"}],
            **values,
        }

    return make


@pytest.fixture
def run(content: Callable[..., dict[str, Any]], tmp_path: Path) -> Callable[..., AblationResult]:
    """Run an ablation of some cells into ``tmp_path / "out"``."""

    def ablate(*cells: dict[str, Any], resume: bool = False, **values: Any) -> AblationResult:
        return ttame.ablate(content(*cells, **values), tmp_path / "out", resume=resume)

    return ablate


@pytest.fixture(autouse=True)
def _quick_plot(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing takes longer than a tiny training; test_plot.py draws."""
    monkeypatch.setattr("ttame.ablation.plot.write_plot", lambda _, path: path.touch())
