"""Every epoch draws from its own seed, so that a resumed training goes on as if never cut off."""

from __future__ import annotations

import lightning.pytorch as pl
import numpy as np
import torch


def epoch_seed(seed: int, epoch: int) -> int:
    """Derive the seed of an epoch, counted from 0, from the training's.

    Example:
        >>> epoch_seed(0, 1) == epoch_seed(0, 1), epoch_seed(0, 1) == epoch_seed(1, 0)
        (True, False)
    """
    return int(np.random.SeedSequence([seed, epoch]).generate_state(1)[0])


class EpochSeed(pl.Callback):
    """Seeds order, random views and drawn shares anew for every epoch.

    Processes that read photos (``workers`` above 0) live on between epochs with generators of their
    own: after a resumption the order is the same, the random views are others.

    Args:
        seed: The training's.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:  # noqa: ARG002
        """Seed what draws from torch's own generator."""
        torch.manual_seed(epoch_seed(self.seed, trainer.current_epoch))

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:  # noqa: ARG002
        """Seed the loader for the next epoch; for the first one its maker does."""
        generator = getattr(trainer.train_dataloader, "generator", None)
        if isinstance(generator, torch.Generator):
            generator.manual_seed(epoch_seed(self.seed, trainer.current_epoch + 1))
