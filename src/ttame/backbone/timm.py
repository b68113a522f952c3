"""Classifiers of the timm library: ``timm/<name>``."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import timm
from torch import nn

from ttame.backbone.source import Loaded, Request, register_source
from ttame.backbone.weights import WeightFile, downloading, load_state, read_weights
from ttame.errors import BackboneError, InputError, StorageError, unknown_name
from ttame.images.preprocessing import Preprocessing


@register_source("timm", names=timm.list_models)
def load_timm(request: Request) -> Loaded:
    """Load a classifier by its timm name, for example ``vit_small_patch14_dinov2``.

    A weight file decides the number of classes and the input size; its safetensors notes
    ``img_size``, ``mean``, ``std`` and ``imagenet_labels`` are honoured.

    Raises:
        UnknownNameError: timm has no such model.
        BackboneError: The weights cannot be fetched or do not fit.
        StorageError: The weight file cannot be read.
    """
    if not timm.is_model(request.name):
        raise unknown_name("timm model", request.name, timm.list_models())
    file = None if request.weights is None else read_weights(request.weights)
    config = _published_config(request.name)
    size = request.image_size or (None if file is None else _file_image_size(file, config))
    arguments: dict[str, Any] = dict(request.model_args)
    if size is not None and config.get("fixed_input_size"):
        arguments.setdefault("img_size", size)
    if file is not None and "num_classes" not in arguments:
        classes = _file_classes(file, config)
        arguments.update({} if classes is None else {"num_classes": classes})
    if file is None and request.pretrained:
        with downloading(f"timm/{request.name}"):
            model = timm.create_model(request.name, pretrained=True, **arguments)
    else:
        model = _create(request.name, arguments)
    if getattr(model, "num_classes", None) == 0:
        raise BackboneError(
            f"timm/{request.name} has no classifier on top; pass weights=FILE of a classifier made "
            "from it, or num_classes=K with pretrained=False"
        )
    if file is not None:
        load_state(model, file.state, str(file.path))
    preprocessing = timm_preprocessing(model, size, {} if file is None else file.metadata)
    return Loaded(model, preprocessing, _class_names(model, config, file))


def _create(name: str, arguments: dict[str, Any]) -> nn.Module:
    try:
        model: nn.Module = timm.create_model(name, pretrained=False, **arguments)
    except TypeError as error:
        raise InputError(f"timm/{name} does not take these arguments: {error}") from error
    return model


def _published_config(name: str) -> dict[str, Any]:
    config = timm.get_pretrained_cfg(name, allow_unregistered=True)
    return {} if config is None else dict(config.to_dict())


def _file_classes(file: WeightFile, config: Mapping[str, Any]) -> int | None:
    """Number of rows of the file's final linear layer."""
    keys = config.get("classifier") or ()
    for key in [keys] if isinstance(keys, str) else keys:
        for end in ("weight", "bias"):
            if f"{key}.{end}" in file.state:
                return file.state[f"{key}.{end}"].shape[0]
    return None


def _file_image_size(file: WeightFile, config: Mapping[str, Any]) -> tuple[int, int] | None:
    """Input size from the file's notes or, failing that, from its position embedding."""
    if "img_size" in file.metadata:
        sides = [int(side) for side in file.metadata["img_size"].split(",")]
        return sides[0], sides[-1]
    position = file.state.get("pos_embed")
    patches = file.state.get(f"{config.get('first_conv')}.weight")
    if position is None or patches is None or position.ndim != 3 or patches.ndim != 4:
        return None
    # Prefix tokens never fill a further row and column: the grid is the largest square that fits.
    side = math.isqrt(position.shape[1])
    return side * patches.shape[2], side * patches.shape[3]


def timm_preprocessing(
    model: nn.Module, size: tuple[int, int] | None = None, notes: Mapping[str, str] | None = None
) -> Preprocessing:
    """Read a timm model's own preprocessing.

    Args:
        model: A model made by timm.
        size: Input size that overrides the model's own.
        notes: ``mean`` and ``std`` as comma-separated numbers override the model's own.
    """
    config = timm.data.resolve_model_data_config(model)
    given = {
        name: tuple(float(number) for number in notes[name].split(","))
        for name in ("mean", "std")
        if notes and name in notes
    }
    crop = size or (int(config["input_size"][1]), int(config["input_size"][2]))
    interpolation = str(config["interpolation"])
    return Preprocessing(
        crop=crop,
        # The short side must cover the longer side of a crop that is not square.
        resize=None if config["crop_mode"] == "squash" else int(max(crop) / config["crop_pct"]),
        mean=given.get("mean", tuple(config["mean"])),
        std=given.get("std", tuple(config["std"])),
        interpolation="bicubic" if interpolation == "random" else interpolation,
    )


def imagenet_names() -> tuple[str, ...]:
    """Names of the 1,000 ImageNet-1k classes, in the order of the labels."""
    info = timm.data.ImageNetInfo()
    return tuple(str(info.index_to_description(index)) for index in range(info.num_classes()))


def _class_names(
    model: nn.Module, config: Mapping[str, Any], file: WeightFile | None
) -> tuple[str, ...] | None:
    names = imagenet_names()
    if file is not None and "imagenet_labels" in file.metadata:
        try:
            return tuple(names[index] for index in json.loads(file.metadata["imagenet_labels"]))
        except (ValueError, TypeError, IndexError) as error:
            raise StorageError(
                f"expected a JSON list of ImageNet-1k indices in the note `imagenet_labels` of "
                f"{file.path}: {error}"
            ) from error
    same = config.get("num_classes") == len(names) == getattr(model, "num_classes", None)
    return names if same else None


def is_timm(model: nn.Module) -> bool:
    """Whether a module was made by timm and knows its preprocessing."""
    return isinstance(getattr(model, "pretrained_cfg", None), dict)
