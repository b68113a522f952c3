"""One door to every classifier: ``load_backbone``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ttame.backbone.contract import Backbone
from ttame.backbone.module import ModuleBackbone
from ttame.backbone.source import SOURCES, Request
from ttame.backbone.weights import WeightFile
from ttame.backbone.wrappers import plain_module
from ttame.errors import BackboneError, InputError, TtameError, unknown_name
from ttame.images.preprocessing import Preprocessing

# Importing these registers their prefixes.
_LIBRARIES = (
    "ttame.backbone.embedded",
    "ttame.backbone.timm",
    "ttame.backbone.torchvision",
    "ttame.backbone.huggingface",
)

# Input sizes to try for a bare module, commonest first.
_SIDES = (224, 32, 28, 64, 96, 128, 160, 192, 256, 299, 384, 448, 512, 518)


@torch.inference_mode(False)  # parameters made in it could not be trained through later
def load_backbone(
    source_or_module: str | nn.Module,
    weights: str | Path | WeightFile | None = None,
    pretrained: bool = True,
    layers: str | Sequence[str] | None = None,
    preprocessing: Preprocessing | None = None,
    class_names: Sequence[str] | None = None,
    image_size: int | tuple[int, int] | None = None,
    logits: str | int | None = None,
    multi_label: bool | None = None,
    class_token_product: bool | None = None,
    **model_args: Any,
) -> Backbone:
    """Load any image classifier and freeze it.

    Args:
        source_or_module: ``"timm/<name>"``, ``"torchvision/<name>"``, ``"hf/<hub id or folder>"``,
            ``"ttame/efficientnet-lite0"``, any nn.Module that gives logits, or a backbone. Data
            parallel and compiled modules are unwrapped.
        weights: Local weight file (safetensors or a torch state dict) instead of a download, or
            its content with the place where it is or will be.
        pretrained: Whether to take the library's published weights where no file is given.
        layers: Layers to read, shallow to deep, as names or one string ``"a,b,c"``; None chooses.
        preprocessing: The way from a photo to the input; None takes the model's own.
        class_names: K names; None takes the model's own where it has any. A classifier with one
            logit has two classes, by default ``negative`` and ``positive``.
        image_size: Input size in pixels, one side or (height, width); None takes the model's own.
        logits: Key, attribute or place of the logits in what the classifier returns, for example
            ``"scores"`` or ``1``; None finds them.
        multi_label: Any number of classes may be there at once: probabilities by sigmoid; None
            takes what the configuration of an ``hf/`` classifier says, and False otherwise.
        class_token_product: Multiply every patch token of a vision transformer by the class token,
            channel by channel, before the tokens become feature maps; None leaves a backbone as it
            is and stands for False otherwise.
        **model_args: Passed on to the library's constructor.

    Returns:
        The frozen classifier.

    Raises:
        InputError: A name is unknown, or arguments contradict each other.
        BackboneError: The classifier cannot be loaded, its layers cannot be read (TorchScript,
            exported, quantised) or give no usable feature maps.
        StorageError: The weight file cannot be read.

    Example:
        >>> backbone = load_backbone("timm/resnet10t", pretrained=False, image_size=64)
        >>> backbone.layers, backbone.feature_shapes[-1]
        (('layer2', 'layer3', 'layer4'), (512, 2, 2))
    """
    names = _layer_names(layers)
    size = _pair(image_size)
    if isinstance(source_or_module, Backbone):
        given = (weights, preprocessing, class_names, size, logits)
        if model_args or any(value is not None for value in given):
            raise InputError(
                "a backbone is loaded already; of the arguments only layers= and "
                "class_token_product= apply"
            )
        is_multi_label = source_or_module.activation == "sigmoid"
        if multi_label not in (None, is_multi_label):
            raise InputError(
                f"a backbone is loaded already, with multi_label={is_multi_label}; load it anew "
                f"with multi_label={multi_label}"
            )
        backbone = _read_otherwise(source_or_module, names, class_token_product)
        return backbone.requires_grad_(False).eval()
    shared: dict[str, Any] = {
        "layers": names,
        "class_names": class_names,
        "logits": logits,
        "multi_label": bool(multi_label),
    }
    if not isinstance(source_or_module, str):
        model = plain_module(source_or_module)
        if weights is not None or model_args:
            raise InputError("a module brings its own weights; load them before passing it")
        bare = _built(model, _preprocessings(model, preprocessing, size), **shared)
        return bare.with_class_token_product(bool(class_token_product))
    file = Path(weights) if isinstance(weights, str) else weights
    path = file.path if isinstance(file, WeightFile) else file
    for library in _LIBRARIES:
        import_module(library)
    prefix, slash, name = source_or_module.partition("/")
    if prefix not in SOURCES or not slash:
        near = [f"{p}/{n}" for p, source in SOURCES.items() for n in source.names()]
        raise unknown_name("classifier", source_or_module, near, f"(sources: {', '.join(SOURCES)})")
    request = Request(name, file, pretrained, size, model_args, preprocessing)
    loaded = SOURCES[prefix].load(request)
    source = loaded.source or source_or_module
    shared["class_names"] = loaded.class_names if class_names is None else class_names
    shared["multi_label"] = loaded.multi_label if multi_label is None else multi_label
    backbone = _built(
        loaded.model,
        [preprocessing or loaded.preprocessing],
        **shared,
        source=source,
        name=name if loaded.source is None else Path(loaded.source).name,
        weights_file=None if path is None else str(path.absolute()),
        recipe={
            "source": source,
            "pretrained": pretrained,
            "image_size": None if size is None else list(size),
            "model_args": _plain(model_args),
        },
    )
    return backbone.with_class_token_product(bool(class_token_product))


def _read_otherwise(
    backbone: Backbone, layers: tuple[str, ...] | None, product: bool | None
) -> Backbone:
    wanted = backbone.class_token_product if product is None else product
    if layers is not None:
        # Off in between: only layers that are read with the product must have a class token.
        backbone = backbone.with_class_token_product(False).with_layers(layers)
    return backbone.with_class_token_product(wanted)


def _layer_names(layers: str | Sequence[str] | None) -> tuple[str, ...] | None:
    if isinstance(layers, str):
        return tuple(name.strip() for name in layers.split(",") if name.strip())
    return None if layers is None else tuple(layers)


def _pair(size: int | Sequence[int] | None) -> tuple[int, int] | None:
    if size is None:
        return None
    sides = (size, size) if isinstance(size, int) else tuple(size)
    if len(sides) != 2 or min(sides) < 1:
        raise InputError(f"expected image_size as one side or (height, width), got {size!r}")
    return int(sides[0]), int(sides[1])


def _plain(model_args: dict[str, Any]) -> dict[str, Any]:
    """Arguments as JSON gives them back; others are left out and must be passed again."""
    return {
        name: json.loads(json.dumps(value)) for name, value in model_args.items() if _json(value)
    }


def _json(value: object) -> bool:
    try:
        json.dumps(value)
    except (TypeError, ValueError):
        return False
    return True


def _built(model: nn.Module, tried: Sequence[Preprocessing], **arguments: Any) -> Backbone:
    """Make the backbone with the first preprocessing whose input the classifier takes."""
    failures = []
    for preprocessing in tried:
        size = " x ".join(str(side) for side in (preprocessing.channels, *preprocessing.crop))
        try:
            return ModuleBackbone(model, preprocessing, **arguments)
        except (TtameError, torch.OutOfMemoryError):
            raise
        except Exception as error:  # a foreign forward may raise anything
            failures.append(f"{size}: {' '.join(repr(error).split())[:200]}")
    raise BackboneError(
        f"{type(model).__name__} takes none of the inputs (channels, height, width) that were "
        f"tried ({failures[0]}); "
        "pass preprocessing=Preprocessing(crop=(height, width), mean=..., std=...)"
    )


def _preprocessings(
    model: nn.Module, given: Preprocessing | None, size: tuple[int, int] | None
) -> list[Preprocessing]:
    """Return what to try for a module of the user's own."""
    from ttame.backbone.timm import is_timm, timm_preprocessing

    if given is not None:
        return [given]
    if is_timm(model):
        return [timm_preprocessing(model, size)]
    sizes = [size] if size else [(side, side) for side in _SIDES]
    return [_guessed_preprocessing(model, candidate) for candidate in sizes]


def _guessed_preprocessing(model: nn.Module, crop: tuple[int, int]) -> Preprocessing:
    """ImageNet's preprocessing, with as many channels as the first convolution reads."""
    resize = round(max(crop) * 256 / 224)
    first = next((m for m in model.modules() if isinstance(m, nn.Conv2d)), None)
    if first is None or first.in_channels == 3:
        return Preprocessing(crop=crop, resize=resize)
    half = (0.5,) * first.in_channels
    return Preprocessing(crop=crop, resize=resize, mean=half, std=half)
