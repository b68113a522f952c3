from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch

from ttame.training.seeding import EpochSeed, epoch_seed


def test_seeds_differ_between_epochs_and_trainings() -> None:
    seeds = {epoch_seed(seed, epoch) for seed in range(20) for epoch in range(20)}
    assert len(seeds) == 400
    assert all(0 <= seed < 2**32 for seed in seeds)


def test_an_epoch_draws_the_same_however_it_is_reached() -> None:
    def drawn(epoch: int) -> tuple[float, float]:
        loader: Any = SimpleNamespace(generator=torch.Generator())
        trainer: Any = SimpleNamespace(current_epoch=epoch - 1, train_dataloader=loader)
        callback = EpochSeed(3)
        module: Any = None
        callback.on_train_epoch_end(trainer, module)
        trainer.current_epoch = epoch
        callback.on_train_epoch_start(trainer, module)
        return torch.rand(1).item(), torch.rand(1, generator=loader.generator).item()

    assert drawn(1) == drawn(1)
    assert drawn(1) != drawn(2)


def test_loaders_without_a_generator_are_left_alone() -> None:
    trainer: Any = SimpleNamespace(current_epoch=0, train_dataloader=object())
    module: Any = None
    EpochSeed(0).on_train_epoch_end(trainer, module)
