from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tiny_backbone import TINY_TRAINING, tiny_backbone, tiny_photos
from ttame.backbone.contract import Backbone
from ttame.explainer import Explainer
from ttame.training.config import TrainingConfig, load_preset
from ttame.training.run import train

TINY = {**TINY_TRAINING, "epochs": 2}


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 photos: 18 to train on, 6 to validate."""
    return tiny_photos(tmp_path_factory.mktemp("photos"), 24)


@pytest.fixture
def config() -> Callable[..., TrainingConfig]:
    return lambda preset="fast", **values: load_preset(preset, {**TINY, **values})


@pytest.fixture
def tiny_train(photos: Path, tmp_path: Path) -> Callable[..., Explainer]:
    """Train the tiny classifier with 3 classes on the photos, into ``tmp_path / "out"``."""

    def run(
        backbone: Backbone | None = None,
        data: Any = photos,
        out: Path = tmp_path / "out",
        **settings: Any,
    ) -> Explainer:
        chosen = backbone if backbone is not None else tiny_backbone(classes=3)
        return train(chosen, data, out, progress=False, **{**TINY, **settings})

    return run


@pytest.fixture(autouse=True)
def _quiet_lightning() -> Iterator[None]:
    before = logging.getLogger("lightning.pytorch").level
    yield
    assert logging.getLogger("lightning.pytorch").level == before
