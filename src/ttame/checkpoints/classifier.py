"""The classifier of a checkpoint: torchvision's, with the checkpoint's own weights if it can be."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn

from ttame.backbone.contract import Backbone
from ttame.backbone.registry import load_backbone
from ttame.backbone.source import Request
from ttame.backbone.torchvision import load_torchvision
from ttame.backbone.weights import WeightFile
from ttame.checkpoints.nodes import module_of
from ttame.checkpoints.reading import BODY, Checkpoint
from ttame.checkpoints.settings import CheckpointSettings
from ttame.errors import StorageError, TtameError, first_line
from ttame.images.preprocessing import Preprocessing

CLASSIFIER = "classifier.safetensors"

_log = logging.getLogger(__name__)


def classifier_of(
    checkpoint: Checkpoint,
    settings: CheckpointSettings,
    num_classes: int,
    out: Path,
    weights: str | Path | None = None,
) -> tuple[Backbone, bool]:
    """Load the classifier of a checkpoint.

    Args:
        checkpoint: The file's parts.
        settings: Name, layers and input size.
        num_classes: K.
        out: The explainer folder, where the checkpoint's own weights will lie; not written here.
        weights: A weight file that goes before the checkpoint's own weights.

    Returns:
        The backbone, and whether its weights are the checkpoint's own.

    Raises:
        UnknownNameError: torchvision has no such classifier, or it has no such layer.
        StorageError: The checkpoint's classifier is another one.
        BackboneError: Weights cannot be fetched or do not fit.
    """
    path, body, size = checkpoint.path, checkpoint.body, settings.image_size
    source = f"torchvision/{settings.model}"
    arguments = {"num_classes": num_classes}
    with _building(source, size), torch.device("meta"):
        loaded = load_torchvision(Request(settings.model, None, False, size, arguments))
    missing = _missing(loaded.model, body, source, path)
    own = weights is None and not missing
    if weights is None and missing:
        _tell_pruned(missing, source, path)
        if loaded.class_names is None:
            raise StorageError(
                f"{path} explains {num_classes} classes and holds no whole classifier, and the "
                f"published weights of {source} are for others; give its own with weights= "
                "(--weights)"
            )
    modules = [module_of(loaded.model, node) for node in settings.layers]
    with _building(source, size):
        backbone = load_backbone(
            source,
            weights=WeightFile(out / CLASSIFIER, body) if own else weights,
            layers=modules,
            preprocessing=Preprocessing(crop=size, resize=round(max(size) * 256 / 224)),
            image_size=size,
        )
    if backbone.num_classes != num_classes:
        raise StorageError(
            f"{path} explains {num_classes} classes, the classifier of {weights} has "
            f"{backbone.num_classes}"
        )
    if not own:
        _check_same(body, backbone.module, path)
    return backbone, own


@contextmanager
def _building(source: str, size: tuple[int, int]) -> Iterator[None]:
    try:
        yield
    except TtameError:
        raise
    except (RuntimeError, AssertionError, ValueError) as error:  # torchvision's own
        raise StorageError(
            f"{source} does not take images of {size} pixels: {first_line(error)}"
        ) from error


def _missing(model: nn.Module, body: Mapping[str, Tensor], source: str, path: Path) -> list[str]:
    """Return the names of a model that the checkpoint lacks; refuse what is not the model's."""
    shapes = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    for name, value in body.items():
        if name not in shapes:
            raise StorageError(f"{BODY}{name} of {path} is no weight of {source}")
        if tuple(value.shape) != shapes[name]:
            raise StorageError(
                f"{BODY}{name} of {path} is {tuple(value.shape)} instead of the {shapes[name]} "
                f"that {source} has for the checkpoint's classes and image size"
            )
    return [name for name in shapes if name not in body]


def _tell_pruned(missing: list[str], source: str, path: Path) -> None:
    _log.warning(
        "%s holds no whole classifier (it lacks %s%s): the published weights of %s are taken; "
        "weights= (--weights) gives others",
        path,
        ", ".join(missing[:3]),
        ", ..." if len(missing) > 3 else "",
        source,
    )


def _check_same(body: Mapping[str, Tensor], model: nn.Module, path: Path) -> None:
    """Compare the checkpoint's part of the classifier with the weights that are taken instead.

    BatchNorm statistics that moved while the mechanism was trained are told; other weights mean
    another classifier.
    """
    state, parameters = model.state_dict(), dict(model.named_parameters())
    moved = [
        name
        for name, value in body.items()
        if value.is_floating_point()
        and not torch.allclose(value.to(state[name]), state[name], rtol=1e-3, atol=1e-5)
    ]
    other = [name for name in moved if name in parameters]
    if other:
        raise StorageError(
            f"{path} was trained on other weights of the classifier than those taken: {len(other)} "
            f"differ, such as {BODY}{other[0]}; give those of its training with weights= "
            "(--weights)"
        )
    if moved:
        _log.warning(
            "%d BatchNorm statistics of the classifier moved in the training of %s (such as "
            "%s%s); those of the weights taken are used, and the maps differ a little",
            len(moved),
            path,
            BODY,
            moved[0],
        )
