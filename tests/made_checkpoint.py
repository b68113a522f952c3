"""Files in the form of the authors' checkpoints, made from what is known of it, at random."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models import get_model

SMALL = "squeezenet1_1"
SMALL_LAYERS = {"features.5": 128, "features.8": 256, "features.12": 512}
SIDE = 64
CLASSES = 5


def mechanism(
    channels: list[int], classes: int, convs: bool = True, norms: bool = True, prefix: str = ""
) -> dict[str, Tensor]:
    """Weights of convolutions, BatchNorms and fusion under the authors' names."""
    made = nn.Module()
    if convs:
        made.convs = nn.ModuleList(nn.Conv2d(width, width, 1) for width in channels)
    if norms:
        made.bns = nn.ModuleList(nn.BatchNorm2d(width) for width in channels)
        for norm in made.bns:
            nn.init.normal_(norm.weight)
            nn.init.normal_(norm.bias)
            nn.init.normal_(norm.running_mean)
            nn.init.uniform_(norm.running_var, 0.5, 2)
    made.fuser = nn.Conv2d(sum(channels), classes, 1)
    return {f"generic.attn_mech.{prefix}{name}": value for name, value in made.state_dict().items()}


def classifier(name: str = SMALL, classes: int = CLASSES, **arguments: Any) -> dict[str, Tensor]:
    """Random weights of one of torchvision's classifiers under the authors' names."""
    model = get_model(name, weights=None, num_classes=classes, **arguments)
    return {f"generic.body.{name}": value for name, value in model.state_dict().items()}


def content(
    model: str = SMALL,
    layers: dict[str, int] | None = None,
    size: int = SIDE,
    classes: int = CLASSES,
    body: dict[str, Tensor] | None = None,
    **parts: Any,
) -> dict[str, Any]:
    """What such a file holds: Lightning's entries, weights and settings."""
    layers = SMALL_LAYERS if layers is None else layers
    state = mechanism(list(layers.values()), classes, **parts)
    return {
        "epoch": 7,
        "global_step": 1234,
        "pytorch-lightning_version": "1.9.0",
        "state_dict": OrderedDict({**(body or {}), **state}),
        "loops": {"fit_loop": {"state_dict": {}}},
        "callbacks": {"ModelCheckpoint{'monitor': None}": {"best_model_score": torch.tensor(0.5)}},
        "optimizer_states": [{"state": {0: {"momentum_buffer": torch.zeros(2)}}}],
        "lr_schedulers": [{"total_steps": 10, "_last_lr": [0.1]}],
        "hparams_name": "kwargs",
        "hyper_parameters": {
            "model_name": model,
            "layers": list(layers),
            "attention_version": "TTAME",
            "train_method": "raw_normalize",
            "num_classes": classes,
            "img_size": size,
            "lr": 1e-3,
            "schedule": ("OneCycle", None, {"pct": 0.3}),
        },
    }


def written(path: Path, made: dict[str, Any], **settings: Any) -> Path:
    """Write a file; ``settings`` replace values of ``hyper_parameters``, None removes one."""
    values = {**made["hyper_parameters"], **settings}
    values = {name: value for name, value in values.items() if value is not None}
    torch.save({**made, "hyper_parameters": values}, path)
    return path
