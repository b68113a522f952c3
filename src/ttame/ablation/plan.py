"""From a configuration to trainings that can start: classifier, layers and settings checked."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ttame.ablation.config import naming
from ttame.backbone.contract import Backbone
from ttame.backbone.registry import load_backbone
from ttame.benchmarking.settings import describe_classifier, versions
from ttame.errors import InputError
from ttame.images.listing import Photo, data_digest, list_photos, sample
from ttame.training.data import find_photos
from ttame.training.fitting import fit_to_classifier, known_layers
from ttame.training.precision import pick_accelerator, pick_precision
from ttame.training.run import FREE_ON_RESUME

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ttame.ablation.config import AblationConfig, Cell
    from ttame.training.config import TrainingConfig

CELLS = "cells"

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class CellPlan:
    """A cell that can be trained.

    Attributes:
        cell: What was asked for.
        backbone: The classifier, reading this cell's layers.
        config: All settings of its training.
        folder: Where its explainer, scores and outcome go.
    """

    cell: Cell
    backbone: Backbone
    config: TrainingConfig
    folder: Path

    def describe(self) -> dict[str, Any]:
        """Return what decides about this cell's explainer, as plain values for JSON."""
        config = {k: v for k, v in self.config.to_dict().items() if k not in FREE_ON_RESUME}
        layers = list(self.backbone.layers)
        described = {"preset": self.cell.preset, "layers": layers, "config": config}
        return _plain(described)


@dataclass(frozen=True)
class AblationPlan:
    """Everything that an ablation computes.

    Attributes:
        cells: The first is the base.
        photos: To train on.
        eval_photos: To score on, already drawn.
        seed: Of the scores.
    """

    cells: tuple[CellPlan, ...]
    photos: tuple[Photo, ...]
    eval_photos: tuple[Photo, ...]
    seed: int

    def describe(self) -> dict[str, Any]:
        """Return what all cells share and what decides about their scores."""
        described = {
            "classifier": describe_classifier(self.cells[0].backbone),
            "data": {"photos": len(self.photos), "digest": data_digest(self.photos)},
            "eval_data": {
                "photos": len(self.eval_photos),
                "digest": data_digest(self.eval_photos),
            },
            "seed": self.seed,
            "versions": versions(),
        }
        return _plain(described)


def _plain(described: dict[str, Any]) -> dict[str, Any]:
    """Return values as they will be read back: tuples are lists there."""
    plain: dict[str, Any] = json.loads(json.dumps(described))
    return plain


def plan_ablation(config: AblationConfig, out: Path, device: str | None = None) -> AblationPlan:
    """Find the photos, load the classifier and check every cell against it.

    Args:
        config: What to compare.
        out: The ablation's folder.
        device: Where it will be computed, instead of the settings' device.

    Raises:
        TtameError: Photos or classifier cannot be read, or a cell does not fit the classifier; the
            message names the cell.
    """
    photos = find_photos(config.data)
    eval_photos = list_photos(config.eval_data)
    if config.images is not None:
        eval_photos = sample(eval_photos, config.images, config.seed)
    _warn_of_shared(photos, eval_photos)
    for cell in config.cells:  # before a classifier is fetched for nothing
        with naming(f"cell {cell.name!r}"):
            settings = cell.settings
            accelerator, _ = pick_accelerator(str(device or settings.get("device", "auto")))
            pick_precision(str(settings.get("precision", "auto")), accelerator)
    backbone = _load(config)
    return AblationPlan(
        cells=tuple(_fit(cell, backbone, config.model, out) for cell in config.cells),
        photos=tuple(photos),
        eval_photos=tuple(eval_photos),
        seed=config.seed,
    )


def _load(config: AblationConfig) -> Backbone:
    if isinstance(config.model, Backbone):
        if config.weights is not None or config.image_size is not None:
            raise InputError("a backbone is loaded already; leave out weights and image_size")
        return config.model
    return load_backbone(config.model, weights=config.weights, image_size=config.image_size)


def _fit(cell: Cell, backbone: Backbone, given: Any, out: Path) -> CellPlan:
    with naming(f"cell {cell.name!r}"):
        layers = cell.layers
        if layers is None and given is not backbone:  # a backbone's own layers stay
            layers = known_layers(backbone, cell.preset)
        fitted, config = fit_to_classifier(
            backbone, cell.preset, dict(cell.settings), layers=layers
        )
    return CellPlan(cell, fitted, config, out / CELLS / cell.folder)


def _warn_of_shared(photos: Sequence[Photo], eval_photos: Sequence[Photo]) -> None:
    seen = {photo.path.resolve() for photo in photos}
    shared = sum(photo.path.resolve() in seen for photo in eval_photos)
    if shared:
        _log.warning(
            "%d of the %d photos to score on are photos to train on; scores on photos that were "
            "not trained on say more",
            shared,
            len(eval_photos),
        )
