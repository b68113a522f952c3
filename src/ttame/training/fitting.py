"""Fitting a preset to a classifier: its layers, fill and head."""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from ttame.backbone.contract import Backbone
from ttame.backbone.probe import probe_images
from ttame.backbone.registry import load_backbone
from ttame.errors import BackboneError
from ttame.heads import IndependentHead, SharedHead, TiedHead, cam_place
from ttame.training.config import (
    KnownBackbone,
    TrainingConfig,
    backbones_of,
    contribution_values,
    load_preset,
)
from ttame.training.teacher import NO_TEACHER, find_teacher, why_not

if TYPE_CHECKING:
    from pathlib import Path

    from torch import nn

_log = logging.getLogger(__name__)


def fit_to_classifier(
    source: Backbone | nn.Module | str,
    preset: str,
    overrides: dict[str, Any],
    weights: str | Path | None = None,
    layers: Sequence[str] | None = None,
    multi_label: bool | None = None,
) -> tuple[Backbone, TrainingConfig]:
    """Load a classifier and settle with which layers and settings it is trained.

    A preset may know backbones by their layers (``paper`` knows VGG-16, ResNet-50 and ViT-B-16):
    it then gives layers and settings of its own. It may have other settings where the
    :mod:`contributions <ttame.backbone.contributions>` of a transformer are read. What the caller
    names, layers or settings, stays; so do the layers of a :class:`Backbone` that was built before.

    Args:
        source: A backbone, a module or a source for :func:`ttame.load_backbone`.
        preset: Name of a preset.
        overrides: Settings that the caller names.
        weights: The classifier's local weight file.
        layers: Layers that the caller names.
        multi_label: See :func:`ttame.load_backbone`.

    Returns:
        The backbone with its layers, and the settings.

    Raises:
        BackboneError: The classifier cannot be loaded, or no gradient passes through it.
        UnknownNameError: There is no such preset, setting or layer.
        InputError: A value does not fit its setting.
    """
    chosen = tuple(layers) if layers is not None else None
    backbone = load_backbone(source, weights, layers=chosen, multi_label=multi_label)
    _check_gradients(backbone)
    free = chosen is None and not isinstance(source, Backbone)
    backbone, values = _as_preset_knows(backbone, preset, free)
    overrides = {name: value for name, value in overrides.items() if value is not None}
    usual = contribution_values(preset) if backbone.plain_layers else {}
    given = {**usual, **values, **overrides}
    config = load_preset(preset, given)
    if config.class_token_product or "class_token_product" in overrides:
        backbone = backbone.with_class_token_product(config.class_token_product)
    config = replace(config, class_token_product=backbone.class_token_product)
    config = _with_sensible_smoothing(config, backbone, given)
    config = _with_possible_teacher(config, backbone, overrides)
    return backbone, _with_possible_head(config, backbone, overrides)


def _check_gradients(backbone: Backbone) -> None:
    """Refuse a classifier that a training cannot look through."""
    plan = backbone.preprocessing
    with torch.enable_grad():
        images = probe_images(plan.crop, plan.channels, backbone).requires_grad_()
        if backbone.logits(images).requires_grad:
            return
    raise BackboneError(
        f"no gradient passes from the logits of {backbone.identity.name} to its input, which a "
        "training needs: it computes in integers, under torch.no_grad() or with detach(); give the "
        "classifier in floating point and without these"
    )


def _as_preset_knows(
    backbone: Backbone, preset: str, free: bool
) -> tuple[Backbone, dict[str, Any]]:
    entry, known = _known(backbone, preset), backbones_of(preset)
    if entry is not None:
        if free:
            backbone = backbone.with_layers(tuple(entry.layers))
        _log.info("%s is trained as the preset's %s", backbone.identity.name, entry.title)
        return backbone, dict(entry.values)
    if known:
        _log.warning(
            "the preset %r knows no layers of %s (it knows those of %s); it reads %s",
            preset,
            backbone.identity.name,
            ", ".join(entry.title for entry in known),
            ", ".join(backbone.layers),
        )
    return backbone, {}


def known_layers(backbone: Backbone, preset: str) -> tuple[str, ...] | None:
    """Return the layers that a preset knows for a classifier, or None where it knows none."""
    entry = _known(backbone, preset)
    return None if entry is None else tuple(entry.layers)


def _known(backbone: Backbone, preset: str) -> KnownBackbone | None:
    known = backbones_of(preset)
    widths = {layer.name: layer.shape[0] for layer in backbone.candidate_layers()} if known else {}
    return next((entry for entry in known if entry.layers.items() <= widths.items()), None)


def _with_sensible_smoothing(
    config: TrainingConfig, backbone: Backbone, given: Collection[str]
) -> TrainingConfig:
    """Smooth what a coarse last layer made rough, not layers of one grid, unless it is given."""
    grids = {shape[1:] for shape in backbone.feature_shapes}
    if "smoothing" in given or len(grids) > 1:
        return config
    return replace(config, smoothing=0.0)


def _with_possible_teacher(
    config: TrainingConfig, backbone: Backbone, named: Collection[str]
) -> TrainingConfig:
    """Refuse a teacher that cannot explain the classifier, or leave the preset's own out."""
    teacher = find_teacher(config.teacher)
    if teacher is None:
        return config
    plan = backbone.preprocessing
    reason = why_not(teacher, backbone, probe_images(plan.crop, plan.channels, backbone))
    if not reason:
        return config
    if "teacher" in named:
        raise BackboneError(f"{config.teacher!r} cannot teach here: {reason}")
    _log.warning("%s cannot teach here, so the objective does: %s", teacher.title, reason)
    return replace(config, teacher=NO_TEACHER)


def _with_possible_head(
    config: TrainingConfig, backbone: Backbone, named: Collection[str]
) -> TrainingConfig:
    """Take another head where the preset's own cannot be made."""
    if config.head == IndependentHead.name or "head" in named:
        return config
    rows = backbone.class_weights
    if rows is None:
        _log.warning(
            "%s has no final linear layer, which the %s head needs: training an independent head "
            "instead, which learns only classes that the photos hold",
            backbone.identity.name,
            config.head,
        )
        return replace(config, head=IndependentHead.name, start="random")
    widths = [shape[0] for shape in backbone.feature_shapes]
    if config.head == SharedHead.name and cam_place(widths, rows) is None:
        _log.warning(
            "no layer of %s is as wide as its final linear layer, which the shared head needs: "
            "training a tied head instead",
            backbone.identity.name,
        )
        return replace(config, head=TiedHead.name)
    return config
