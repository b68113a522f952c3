"""Keeps the best explainer of a training on disk, from the first validation on."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lightning.pytorch as pl

from ttame import storage

if TYPE_CHECKING:
    from ttame.explainer import Explainer

_log = logging.getLogger(__name__)

MONITORED = "val/ad"


class BestExplainer(pl.Callback):
    """Writes the explainer folder whenever the validation's mean average drop falls.

    A training that is cut off leaves its best explainer so far, whole. Epoch 0 is the untrained
    start, where it was validated.

    Args:
        explainer: What is being trained.
        folder: The explainer folder.
        describe: Returns what to record beside the weights, without the scores.
    """

    def __init__(
        self, explainer: Explainer, folder: Path, describe: Callable[[], dict[str, Any]]
    ) -> None:
        self.explainer = explainer
        self.folder = folder
        self.describe = describe
        self.best = float("inf")
        self.seconds = 0.0
        self._started = time.monotonic()

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:  # noqa: ARG002
        """Start the clock."""
        self._started = time.monotonic()

    def elapsed(self) -> float:
        """Return seconds of training, those before a resumption included."""
        return self.seconds + time.monotonic() - self._started

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save the explainer if it is the best so far."""
        scores = {
            name.removeprefix("val/"): round(float(value), 4)
            for name, value in trainer.callback_metrics.items()
            if name.startswith("val/")
        }
        score = scores.get(MONITORED.removeprefix("val/"))
        if trainer.sanity_checking or score is None or not score < self.best:
            return
        self.best = score
        record = self.describe()
        epoch = trainer.current_epoch + 1 if pl_module.global_step else 0
        record["training"].update(
            epoch=epoch,
            steps=pl_module.global_step,
            seconds=round(self.elapsed(), 1),
        )
        record["scores"] = {"validation": scores}
        self.explainer.provenance = record
        storage.save(self.explainer, self.folder)
        _log.info("epoch %d is the best so far: %s", epoch, scores)

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed training must know."""
        return {"best": self.best, "seconds": self.elapsed()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up a resumed training."""
        self.best = state_dict["best"]
        self.seconds = state_dict["seconds"]
