"""Settings of a training: presets are data in ``presets.json``, every value can be overridden."""

from __future__ import annotations

import json
import math
import types
import typing
from dataclasses import asdict, dataclass, fields, replace
from importlib import resources
from typing import Any

from ttame.errors import InputError, unknown_name


@dataclass(frozen=True)
class TrainingConfig:
    """Everything that decides how a training goes; recorded in the explainer folder.

    Attributes:
        head: ``"tied"``, ``"shared"`` or ``"independent"``, see :mod:`ttame.heads`.
        start: ``"cam"`` or ``"random"``, see :func:`ttame.new_explainer`.
        grid: ``"first"`` or ``"last"``: the layer on whose grid the maps lie.
        branch: Form of the layers' branches, see :data:`ttame.attention.BRANCHES`.
        unit_cells: Cells of the fused features are scaled to one length, see
            :func:`ttame.attention.unit_cells`.
        class_token_product: Every patch token of a vision transformer is multiplied by the class
            token first, channel by channel; refused where there is no class token.
        mask_form: How maps become masks: ``"ranks"``, ``"minmax"`` or ``"sigmoid"``.
        smoothing: Standard deviation, in cells, of the Gaussian that smooths the maps, by the
            objective as afterwards; a teacher's maps are learnt without. 0 where all layers share
            one grid, unless it is given or the preset has one for contributions.
        upsampling: How masks come to the size of the image, in training as afterwards:
            ``"bilinear"``, or ``"nearest"``, which leaves every cell whole (before ``detail``).
        detail: How much of the photo's edges is mixed into the masks, by the objective as
            afterwards, see :func:`ttame.detail.with_detail`; a teacher's maps are learnt without.
        teacher: A method (``ttame methods``) whose maps are learnt instead of the objective, of the
            class that is seen and of others; ``"none"`` for the objective. To that alone belong
            shares, block, fill, terms and weights below.
        teacher_classes: How many other classes a teacher explains on every photo, at most all.
        shares: Every step keeps one of these shares of each mask's pixels, drawn per image.
        block: Area and variation run over the maps of every label of the batch (B x B).
        fill: What replaces masked pixels: ``"black"``, ``"mean"`` or ``"blur"``.
        cross_entropy_weight: Weight of the masked image's cross-entropy.
        cross_entropy_bound: 0 for the plain cross-entropy, q > 0 for the generalised one.
        area_weight: Weight of the area term.
        variation_weight: Weight of the variation term (a sum over the map's pixels).
        optimizer: ``"adamw"`` or ``"sgd"`` (Nesterov); OneCycle schedule for both.
        lr: Maximum learning rate.
        momentum: Momentum of SGD.
        weight_decay: On weights and BatchNorm gains, none on biases.
        train_images: Most photos to train on, drawn at random; 0 takes all.
        epochs: Passes over the photos.
        batch_size: Photos per step.
        seed: Of the start, the order, the augmentation and the validation split.
        val_share: Share of the photos kept for validation.
        val_images: Most photos used for validation.
        precision: ``"auto"`` (bfloat16 where the processor computes in it) or a lightning name.
        device: ``"auto"``, ``"cpu"``, ``"cuda"``, ...
        workers: Processes that read photos; -1 picks a number for this machine.
    """

    head: str = "tied"
    start: str = "cam"
    grid: str = "last"
    branch: str = "paper"
    unit_cells: bool = False
    class_token_product: bool = False
    mask_form: str = "ranks"
    smoothing: float = 0.0
    upsampling: str = "bilinear"
    detail: float = 0.0
    teacher: str = "none"
    teacher_classes: int = 4
    shares: tuple[float, ...] = (1.0,)
    block: bool = False
    fill: str = "black"
    cross_entropy_weight: float = 1.5
    cross_entropy_bound: float = 0.0
    area_weight: float = 2.0
    variation_weight: float = 0.01
    optimizer: str = "adamw"
    lr: float = 1e-3
    momentum: float = 0.9
    weight_decay: float = 1e-4
    train_images: int = 0
    epochs: int = 4
    batch_size: int = 32
    seed: int = 0
    val_share: float = 0.05
    val_images: int = 200
    precision: str = "auto"
    device: str = "auto"
    workers: int = -1

    def __post_init__(self) -> None:
        for name, (low, high) in RANGES.items():
            value = getattr(self, name)
            if not (low <= value <= high and math.isfinite(value)):
                upper = f" and at most {high:.10g}" if math.isfinite(high) else ""
                raise InputError(f"expected {name} of at least {low}{upper}, got {value}")
        if self.batch_size < 2:
            raise InputError("expected a batch size of at least 2: BatchNorm needs several photos")
        if not self.shares or not all(0 < share <= 1 for share in self.shares):
            raise InputError(f"expected shares in (0, 1], got {self.shares}")
        if not 0 < self.val_share < 1:
            raise InputError(f"expected val_share between 0 and 1, got {self.val_share}")
        if not 0 < self.lr < math.inf:
            raise InputError(f"expected a learning rate above 0, got {self.lr}")
        if not self.momentum < 1:
            raise InputError(f"expected a momentum below 1, got {self.momentum}")
        for name, valid in CHOICES.items():
            if getattr(self, name) not in valid:
                raise unknown_name(name, getattr(self, name), valid)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {**asdict(self), "shares": list(self.shares)}


# Smallest and largest value of a setting, both allowed.
RANGES = {
    "epochs": (1, math.inf),
    "batch_size": (1, math.inf),
    "teacher_classes": (1, math.inf),
    "train_images": (0, math.inf),
    "val_images": (1, math.inf),
    "cross_entropy_weight": (0, math.inf),
    "cross_entropy_bound": (0, math.inf),
    "area_weight": (0, math.inf),
    "variation_weight": (0, math.inf),
    "smoothing": (0, math.inf),
    "detail": (0, 1),
    "weight_decay": (0, math.inf),
    "momentum": (0, 1),
    "seed": (0, 2**32 - 1),  # what numpy's generator takes
    "workers": (-1, math.inf),
}

CHOICES = {
    "head": ("tied", "shared", "independent"),
    "start": ("cam", "random"),
    "grid": ("first", "last"),
    "branch": ("paper", "no-norm", "no-skip", "sigmoid", "identity", "perceptron"),
    "mask_form": ("ranks", "minmax", "sigmoid"),
    "upsampling": ("bilinear", "nearest"),
    "fill": ("black", "mean", "blur"),
    "optimizer": ("adamw", "sgd"),
}


_BACKBONES = "backbones"
_CONTRIBUTIONS = "contributions"


@dataclass(frozen=True)
class KnownBackbone:
    """A backbone that a preset has layers and settings for; told by its layers.

    Attributes:
        title: For people.
        layers: Channels of every layer's feature map by the layer's name, shallow to deep.
        values: Settings that differ from the preset's.
    """

    title: str
    layers: dict[str, int]
    values: dict[str, Any]


def preset_names() -> tuple[str, ...]:
    """Return the names of all presets."""
    return tuple(_presets())


def load_preset(name: str = "fast", overrides: dict[str, Any] | None = None) -> TrainingConfig:
    """Read a preset and override values of it.

    Args:
        name: ``"fast"`` or ``"paper"``.
        overrides: Values by field name; texts are read by the field's type, None is left out.

    Raises:
        UnknownNameError: There is no such preset or field.
        InputError: A value does not fit its field.

    Example:
        >>> load_preset("paper", {"epochs": "2"}).epochs
        2
    """
    presets = _presets()
    if name not in presets:
        raise unknown_name("preset", name, presets)
    kinds = typing.get_type_hints(TrainingConfig)
    apart = (_BACKBONES, _CONTRIBUTIONS)
    values = {key: value for key, value in presets[name].items() if key not in apart}
    for key, value in (overrides or {}).items():
        if key not in kinds:
            raise unknown_name(
                "training setting", key, [field.name for field in fields(TrainingConfig)]
            )
        if value is not None:
            values[key] = value
    parsed = {key: _parse(key, value, kinds[key]) for key, value in values.items()}
    return replace(TrainingConfig(), **parsed)


def backbones_of(name: str) -> list[KnownBackbone]:
    """Return the backbones that a preset knows, each with its own layers and settings.

    Example:
        >>> [entry.title for entry in backbones_of("paper")]
        ['VGG-16', 'ResNet-50', 'ViT-B-16']
    """
    return [KnownBackbone(**entry) for entry in _presets().get(name, {}).get(_BACKBONES, [])]


def contribution_values(name: str) -> dict[str, Any]:
    """Return the settings of a preset that differ where contributions are read.

    Example:
        >>> contribution_values("paper")
        {}
    """
    return dict(_presets().get(name, {}).get(_CONTRIBUTIONS, {}))


def _presets() -> dict[str, dict[str, Any]]:
    text = resources.files("ttame.training").joinpath("presets.json").read_text(encoding="utf-8")
    presets: dict[str, dict[str, Any]] = json.loads(text)
    return presets


def _parse(key: str, value: Any, kind: Any) -> Any:
    try:
        if isinstance(kind, types.GenericAlias) or typing.get_origin(kind) is tuple:
            parts = value.split(",") if isinstance(value, str) else value
            return tuple(float(part) for part in parts)
        if kind is bool and isinstance(value, str):
            return {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}[
                value.lower()
            ]
        if kind is int and float(value) != int(float(value)):
            raise ValueError
        return kind(float(value)) if kind is int else kind(value)
    except (KeyError, OverflowError, TypeError, ValueError):
        name = getattr(kind, "__name__", str(kind))
        raise InputError(f"expected {key} of type {name}, got {value!r}") from None
