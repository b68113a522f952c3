"""From a checkpoint file of the authors to an explainer folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from ttame import storage
from ttame.attention import AttentionMechanism
from ttame.backbone.contract import Backbone
from ttame.checkpoints.classifier import classifier_of
from ttame.checkpoints.mechanism import branch_of, mechanism_state, num_classes_of
from ttame.checkpoints.reading import Checkpoint, digest, read_checkpoint
from ttame.checkpoints.settings import CheckpointSettings, settings_of
from ttame.errors import StorageError
from ttame.explainer import Explainer
from ttame.files import write_atomically
from ttame.heads import IndependentHead


def import_checkpoint(
    file: str | Path,
    out: str | Path,
    model: str | None = None,
    weights: str | Path | None = None,
    layers: Sequence[str] | None = None,
    branch: str | None = None,
    fill: str | None = None,
) -> Explainer:
    """Turn a checkpoint that the authors of T-TAME published into an explainer folder.

    Nothing in the file is run. Its classifier is written beside the explainer where the file holds
    the whole of it; otherwise torchvision's published weights or ``weights`` are taken. What is
    not understood is refused, and nothing is written then.

    Args:
        file: A PyTorch Lightning checkpoint.
        out: The folder to write; it must not hold an explainer.
        model: The classifier, ``"torchvision/NAME"``; None takes the file's ``model_name``.
        weights: The classifier's weight file, instead of the checkpoint's own weights.
        layers: torchvision's graph nodes in the mechanism's order; None takes the file's.
        branch: Form of the layers' branches, one of those that the authors' code knows; None tells
            it from the file.
        fill: What replaced masked pixels in the training, one of :data:`ttame.masking.FILLS`; None
            takes the file's. It is noted only: explaining does not depend on it.

    Returns:
        The explainer.

    Raises:
        StorageError: The file holds what is refused, or the folder cannot be written.
        InputError: An argument, or a name in the file, is unknown.
        BackboneError: The classifier cannot be loaded.
    """
    out = Path(out)
    if (out / storage.DESCRIPTION).exists():
        raise StorageError(f"{out} holds an explainer already; choose another folder")
    checkpoint = read_checkpoint(file)
    settings = settings_of(checkpoint.settings, checkpoint.path, model, layers, fill)
    num_classes = num_classes_of(checkpoint.mechanism, checkpoint.path)
    if settings.num_classes not in (None, num_classes):
        raise StorageError(
            f"{checkpoint.path} says num_classes {settings.num_classes}, its head has {num_classes}"
        )
    form = branch_of(checkpoint.mechanism, settings.version, checkpoint.path, branch)
    # Parts start at random before their weights are read: that is no business of the caller's.
    with torch.random.fork_rng(devices=[]):
        backbone, own = classifier_of(checkpoint, settings, num_classes, out, weights)
        attention = _mechanism(checkpoint, settings, backbone, form)
    explainer = Explainer(backbone, attention, "sigmoid", _notes(checkpoint, settings)).eval()
    if own and backbone.weights_file is not None:
        _write_classifier(backbone, Path(backbone.weights_file))
    explainer.save(out)
    return explainer


def _mechanism(
    checkpoint: Checkpoint, settings: CheckpointSettings, backbone: Backbone, form: str
) -> AttentionMechanism:
    channels = [shape[0] for shape in backbone.feature_shapes]
    head = IndependentHead(channels, backbone.num_classes)
    attention = AttentionMechanism(channels, head, "first", form)
    attention.load_state_dict(
        mechanism_state(checkpoint.mechanism, attention, settings.layers, checkpoint.path)
    )
    return attention


def _notes(checkpoint: Checkpoint, settings: CheckpointSettings) -> dict[str, Any]:
    return {
        "imported": {
            "file": checkpoint.path.name,
            "sha256": digest(checkpoint.path),
            **checkpoint.notes,
            "attention_version": settings.version,
            "fill": settings.fill,
        }
    }


def _write_classifier(backbone: Backbone, path: Path) -> None:
    from safetensors.torch import save as to_bytes

    state = {name: value.contiguous() for name, value in backbone.module.state_dict().items()}
    content = to_bytes(state)
    write_atomically(path, lambda file: file.write(content))
