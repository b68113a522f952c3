from __future__ import annotations

import logging
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from tiny_backbone import tiny_backbone
from ttame.explainer import new_explainer
from ttame.images.dataset import Batch
from ttame.training.config import TrainingConfig
from ttame.training.guards import CollapseGuard, collapse_reasons, similarity
from ttame.training.module import ExplainerTraining

IMAGE = "the maps no longer depend on the image"
CLASS = "the maps no longer depend on the class"


def test_similarity_by_hand() -> None:
    map_ = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    pairs = [(map_, 3 * map_ - 7, 1.0), (map_, -map_, -1.0), (map_, torch.ones(2, 2), None)]
    for first, second, expected in pairs[:2]:
        assert similarity(first[None], second[None]) == pytest.approx(expected, abs=1e-6)
    both = similarity(torch.stack([map_, map_]), torch.stack([map_, -map_]))
    assert both == pytest.approx(0, abs=1e-6)


def test_two_constant_maps_are_the_same() -> None:
    assert similarity(torch.ones(2, 3, 3), torch.zeros(2, 3, 3)) == 1


def test_sound_masks_give_no_reason() -> None:
    masks = torch.rand(3, 4, 7, 7)
    assert collapse_reasons(masks[0], masks[1], masks[2]) == []
    assert collapse_reasons(masks[0], None, None) == []


@pytest.mark.parametrize(("value", "word"), [(1.0, "keep"), (0.0, "remove"), (0.98, "keep")])
def test_masks_near_one_or_zero(value: float, word: str) -> None:
    masks = (torch.full((2, 7, 7), value) + 1e-3 * torch.rand(2, 7, 7)).clamp(0, 1)
    reasons = collapse_reasons(masks, None, None)
    assert len(reasons) == 1
    assert f"the masks {word} everything" in reasons[0]


def test_maps_that_are_the_same_for_other_images_or_classes() -> None:
    masks = torch.rand(3, 7, 7)
    near = (masks + 1e-4 * torch.rand(3, 7, 7)).clamp(0, 1)
    assert collapse_reasons(masks, near, torch.rand(3, 7, 7)) == [IMAGE]
    assert collapse_reasons(masks, torch.rand(3, 7, 7), near) == [CLASS]
    assert collapse_reasons(masks, near, near) == [IMAGE, CLASS]


class Fixed(torch.nn.Module):
    """Stands for an attention mechanism with given maps."""

    def __init__(self, make: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.make = make

    def forward(self, features: tuple[Tensor, ...], classes: Tensor) -> Tensor:
        return self.make(features[-1], classes)


def looked_at(
    make: Callable[[Tensor, Tensor], Tensor] | None, config: TrainingConfig, count: int = 6
) -> CollapseGuard:
    """Let the guard look at a batch; ``make`` gives maps (B, n, h, w) of features and classes."""
    explainer = new_explainer(tiny_backbone(classes=3))
    module = ExplainerTraining(explainer, config)
    if make is not None:
        module.attention = Fixed(make)  # type: ignore[assignment]
    guard: Any = CollapseGuard()
    batch = Batch(torch.rand(count, 3, 32, 32), torch.arange(count))
    guard.on_validation_batch_end(SimpleNamespace(sanity_checking=False), module, None, batch, 0)
    return guard  # type: ignore[no-any-return]


def grid(classes: Tensor) -> Tensor:
    """One fixed random map per class, the same for every image: (B, n, 4, 4)."""
    table = torch.randn(3, 4, 4, generator=torch.Generator().manual_seed(1))
    return table[classes]


def own(features: Tensor) -> Tensor:
    """One map per image, the same for every class: (B, 4, 4)."""
    return features.mean(1)


def test_the_guard_is_silent_for_sound_maps(
    config: Callable[..., TrainingConfig], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "ttame"):
        assert looked_at(None, config()).findings == []
    assert not caplog.records


@pytest.mark.parametrize("form", ["sigmoid", "minmax", "ranks"])
def test_the_guard_finds_maps_that_forget_the_image(
    form: str, config: Callable[..., TrainingConfig], caplog: pytest.LogCaptureFixture
) -> None:
    def make(features: Tensor, classes: Tensor) -> Tensor:
        return grid(classes)

    with caplog.at_level(logging.WARNING, "ttame"):
        assert looked_at(make, config(mask_form=form)).findings == [IMAGE]
    assert "has collapsed: the maps no longer depend on the image" in caplog.text


@pytest.mark.parametrize("form", ["sigmoid", "minmax", "ranks"])
def test_the_guard_finds_maps_that_forget_the_class(
    form: str, config: Callable[..., TrainingConfig]
) -> None:
    def make(features: Tensor, classes: Tensor) -> Tensor:
        return own(features)[:, None].expand(-1, classes.shape[1], -1, -1)

    assert looked_at(make, config(mask_form=form)).findings == [CLASS]


def test_the_guard_finds_all_ones(config: Callable[..., TrainingConfig]) -> None:
    def make(features: Tensor, classes: Tensor) -> Tensor:
        return torch.full((*classes.shape, 4, 4), 20.0)

    findings = looked_at(make, config(mask_form="sigmoid")).findings
    assert findings[0] == "the mean mask area is 1.000: the masks keep everything"
    # With the other forms a constant map has no area of its own; it is found all the same.
    for form in ("ranks", "minmax"):
        assert IMAGE in looked_at(make, config(mask_form=form)).findings


def test_the_guard_looks_once_and_needs_two_photos(config: Callable[..., TrainingConfig]) -> None:
    def make(features: Tensor, classes: Tensor) -> Tensor:
        return torch.zeros(*classes.shape, 4, 4)

    assert looked_at(make, config(), count=1).findings == []
    guard: Any = CollapseGuard()
    module = ExplainerTraining(new_explainer(tiny_backbone()), config())
    batch = Batch(torch.rand(4, 3, 32, 32), torch.arange(4))
    for trainer, place in ((False, 1), (True, 0)):
        guard.on_validation_batch_end(
            SimpleNamespace(sanity_checking=trainer), module, None, batch, place
        )
    assert guard.findings == []
