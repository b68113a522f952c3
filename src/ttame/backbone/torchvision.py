"""Classifiers of torchvision: ``torchvision/<name>``."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torchvision import models  # type: ignore[import-untyped]
from torchvision.models import (  # type: ignore[import-untyped]
    get_model,
    get_model_weights,
    list_models,
)

from ttame.backbone.source import Loaded, Request, register_source
from ttame.backbone.weights import WeightFile, downloading, load_state, read_weights
from ttame.errors import InputError, unknown_name
from ttame.images.preprocessing import Preprocessing


def torchvision_names() -> list[str]:
    """Names of torchvision's image classifiers."""
    return list(list_models(module=models))


@register_source("torchvision", names=torchvision_names)
def load_torchvision(request: Request) -> Loaded:
    """Load a classifier by its torchvision name, for example ``resnet50``.

    Raises:
        UnknownNameError: torchvision has no such classifier.
        BackboneError: The weights cannot be fetched or do not fit.
        StorageError: The weight file cannot be read.
    """
    name = request.name
    if name not in torchvision_names():
        raise unknown_name("torchvision model", name, torchvision_names())
    published = get_model_weights(name).DEFAULT
    arguments: dict[str, Any] = dict(request.model_args)
    preset = published.transforms()
    # The published weights bring their size; whatever else is given is built for it all the same.
    brought = request.pretrained and request.weights is None and request.image_size is None
    if not brought and _fixed_size(name):
        size = preset.crop_size if request.image_size is None else request.image_size
        arguments.setdefault("image_size", size[0])
    file = None if request.weights is None else read_weights(request.weights)
    if file is not None and "num_classes" not in arguments:
        arguments["num_classes"] = _file_classes(name, file, arguments)
    if file is None and request.pretrained:
        with downloading(f"torchvision/{name}"):
            model: nn.Module = get_model(name, weights=published, **arguments)
    else:
        model = _create(name, arguments)
    if file is not None:
        load_state(model, file.state, str(file.path))
    crop = request.image_size or (preset.crop_size[0], preset.crop_size[0])
    preprocessing = Preprocessing(
        crop=crop,
        resize=round(preset.resize_size[0] * max(crop) / preset.crop_size[0]),
        mean=tuple(preset.mean),
        std=tuple(preset.std),
        interpolation=preset.interpolation.value,
    )
    categories = tuple(published.meta["categories"])
    classes = arguments.get("num_classes", len(categories))
    return Loaded(model, preprocessing, categories if classes == len(categories) else None)


def _create(name: str, arguments: dict[str, Any]) -> nn.Module:
    try:
        model: nn.Module = get_model(name, weights=None, **arguments)
    except TypeError as error:
        raise InputError(f"torchvision/{name} does not take these arguments: {error}") from error
    return model


def _fixed_size(name: str) -> bool:
    """Whether the model is built for one input size (its position embedding is)."""
    with torch.device("meta"):
        return hasattr(get_model(name, weights=None), "image_size")


def _file_classes(name: str, file: WeightFile, arguments: dict[str, Any]) -> int:
    """Number of classes of a file: torchvision registers the final layer last."""
    with torch.device("meta"):
        last, value = list(_create(name, arguments).state_dict().items())[-1]
    return file.state[last].shape[0] if last in file.state else value.shape[0]
