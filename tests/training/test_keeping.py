from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from tiny_backbone import tiny_backbone
from ttame import storage
from ttame.explainer import new_explainer
from ttame.training.keeping import BestExplainer


def validated(keeper: BestExplainer, epoch: int, sanity: bool = False, **scores: float) -> None:
    metrics = {name.replace("_", "/", 1): torch.tensor(value) for name, value in scores.items()}
    trainer: Any = SimpleNamespace(
        callback_metrics=metrics, sanity_checking=sanity, current_epoch=epoch
    )
    module: Any = SimpleNamespace(global_step=7 * (epoch + 1))
    keeper.on_validation_end(trainer, module)


@pytest.fixture
def keeper(tmp_path: Path) -> BestExplainer:
    explainer = new_explainer(tiny_backbone())
    return BestExplainer(explainer, tmp_path / "out", lambda: {"training": {"preset": "fast"}})


def test_the_lowest_score_is_kept(keeper: BestExplainer) -> None:
    bias = keeper.explainer.attention.head.bias
    for epoch, score in enumerate([30.0, 20.0, 25.0, 20.0]):
        torch.nn.init.constant_(bias, epoch)  # type: ignore[arg-type]
        validated(keeper, epoch, val_ad=score, val_ic_50=3.14159265, loss=1.0)
    description = storage.read_description(keeper.folder)
    assert description["scores"] == {"validation": {"ad": 20.0, "ic_50": 3.1416}}
    assert description["training"]["epoch"] == 2
    assert description["training"]["steps"] == 14
    assert description["training"]["preset"] == "fast"
    assert description["training"]["seconds"] >= 0
    kept = storage.load(keeper.folder, backbone=tiny_backbone())
    assert kept.attention.head.bias.item() == 1  # type: ignore[arg-type]


@pytest.mark.parametrize("score", [float("nan"), float("inf"), None])
def test_no_score_keeps_nothing(keeper: BestExplainer, score: float | None) -> None:
    validated(keeper, 0, **({} if score is None else {"val_ad": score}))
    assert not keeper.folder.exists()
    validated(keeper, 1, val_ad=99.0)
    assert storage.read_description(keeper.folder)["training"]["epoch"] == 2


def test_the_sanity_check_keeps_nothing(keeper: BestExplainer) -> None:
    validated(keeper, 0, sanity=True, val_ad=1.0)
    assert not keeper.folder.exists()


def test_a_resumed_training_goes_on_with_the_best(keeper: BestExplainer) -> None:
    validated(keeper, 0, val_ad=20.0)
    state = keeper.state_dict()
    resumed = BestExplainer(keeper.explainer, keeper.folder, keeper.describe)
    resumed.load_state_dict({**state, "seconds": 1000.0})
    assert resumed.elapsed() >= 1000
    validated(resumed, 1, val_ad=21.0)
    assert storage.read_description(keeper.folder)["training"]["epoch"] == 1
    validated(resumed, 2, val_ad=19.0)
    description = storage.read_description(keeper.folder)
    assert description["training"]["epoch"] == 3
    assert description["training"]["seconds"] >= 1000
