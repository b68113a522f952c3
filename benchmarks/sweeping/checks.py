"""What one model has to pass: load, explain, move, train, and stay as it was."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

import ttame
from sweeping.catalogue import Entry
from sweeping.libraries import LIBRARIES
from sweeping.motion import Size, peaks, shifted_pictures, shifts_for
from ttame.backbone.contract import Backbone
from ttame.backbone.fingerprint import fingerprint
from ttame.images.dataset import Batch
from ttame.training.config import load_preset
from ttame.training.module import ExplainerTraining

# Side of the training step's images, where the classifier takes it and its own is larger.
SMALL = 128
# Classes that are explained.
MOST_CLASSES = 10
# The gain of weights at which a signal may die out on its way through many layers.
WEAK = 0.3
# Coarser layers are moved by half a cell or half the way round, which tells nothing.
FEWEST_CELLS = 4

Record = dict[str, Any]


class FailedError(Exception):
    """A model does not pass a check; the message says why."""


def check(entry: Entry) -> Record:
    """Put a model through all stages.

    Returns:
        What is known of it: ``outcome`` is ``"ok"`` or ``"failed"``, then with ``stage`` and
        ``reason``; ``seconds`` by stage.
    """
    record: Record = {**asdict(entry), "outcome": "ok", "seconds": {}}
    with tempfile.TemporaryDirectory() as folder:
        model = Model(entry, Path(folder), record)
        for stage in STAGES:
            start = time.perf_counter()
            try:
                stage(model)
            except Exception as error:  # whatever a model raises is what is to be known
                reason = str(error) if isinstance(error, FailedError) else _told(error)
                record |= {"outcome": "failed", "stage": stage.__name__, "reason": reason}
            record["seconds"][stage.__name__] = round(time.perf_counter() - start, 2)
            if record["outcome"] != "ok":
                break
    return record


class Model:
    """A model on its way through the stages.

    Args:
        entry: Which one.
        folder: For its files.
        record: What is written about it.
    """

    backbone: Backbone
    shifts: list[Size]
    head: str
    before: str

    def __init__(self, entry: Entry, folder: Path, record: Record) -> None:
        self.entry = entry
        self.folder = folder
        self.record = record


def load(model: Model) -> None:
    """Load it by its name alone, with seeded random weights, and choose the layers.

    Untrained, a signal may die out on its way through a classifier; here it must not.
    """
    torch.manual_seed(0)
    source, arguments = LIBRARIES[model.entry.library].load(model.entry.model, model.folder)
    backbone = ttame.load_backbone(source, pretrained=False, **arguments)
    preprocessing, shapes = backbone.preprocessing, backbone.feature_shapes
    model.shifts = shifts_for([shape[1:] for shape in shapes], preprocessing.crop)
    draw_weak(backbone.module, WEAK)
    settle_norms(backbone.module, shifted(backbone, preprocessing.crop, model.shifts[0]))
    model.backbone, model.before = backbone, fingerprint(backbone.module)
    model.head = "independent" if backbone.class_weights is None else "tied"
    model.record |= {
        "parameters": sum(p.numel() for p in backbone.module.parameters()),
        "classes": backbone.num_classes,
        "input": [preprocessing.channels, *preprocessing.crop],
        "head": model.head,
        "layers": [
            [name, list(shape)] for name, shape in zip(backbone.layers, shapes, strict=True)
        ],
    }


def explain(model: Model) -> None:
    """Explain some classes at the model's own input size; the maps move with the picture.

    At a random start all layers take part. Without biases, which say nothing of the picture, a map
    of weak features is not drowned.
    """
    explainer = ttame.new_explainer(model.backbone, model.head, start="random")
    for name, parameter in explainer.attention.named_parameters():
        if name.endswith("bias"):
            nn.init.zeros_(parameter)
    fault = None
    for shift in model.shifts:
        fault = standstill(model, explainer, shift)
        if fault is None:
            return
    raise FailedError(fault)


def standstill(model: Model, explainer: ttame.Explainer, shift: Size) -> str | None:
    """What does not move with a picture that is shifted, or None."""
    crop = model.backbone.preprocessing.crop
    features: list[Tensor] = []
    hooks = [
        branch.register_forward_pre_hook(lambda _, inputs: features.append(inputs[0]))
        for branch in explainer.attention.branches
    ]
    classes = list(range(min(MOST_CLASSES, model.backbone.num_classes)))
    explanation = explainer(shifted(model.backbone, crop, shift), [classes])
    for hook in hooks:
        hook.remove()
    unchanged(model)
    if not torch.isfinite(explanation.maps).all():
        raise FailedError("the map is not finite")
    moved = peaks(explanation.maps, crop, shift)
    layers = [peaks(feature, crop, shift) for feature in features]
    model.record["moved"] = round(sum(moved) / len(moved), 3)
    model.record["peaks"] = [[round(peak, 3) for peak in found] for found in (moved, *layers)]
    right = sum(peak > 0 for peak in moved)
    if right < len(moved):
        return f"the map moves with the picture in {right} of {len(moved)} directions"
    for name, feature, found in zip(model.backbone.layers, features, layers, strict=True):
        axes = (("rows", found[:2]), ("columns", found[2:]))
        still = [axis for axis, both in axes if not any(both)]
        if still and min(feature.shape[2:]) >= FEWEST_CELLS:
            return (
                f"the cells of layer {name} are not in the picture's order: "
                f"{' and '.join(still)} do not move with it"
            )
    return None


def shifted(backbone: Backbone, size: Size, shift: Size) -> Tensor:
    """The input of :func:`sweeping.motion.shifted_pictures` for a classifier."""
    preprocessing = backbone.preprocessing
    return preprocessing.normalise(shifted_pictures(preprocessing.channels, size, shift))


def train(model: Model) -> None:
    """Make one training step whose gradient goes through the masked image and the classifier."""
    # Without the variation term there is no other way; at a random start no weight is zero.
    values = {"head": model.head, "start": "random", "shares": [1.0], "variation_weight": 0.0}
    config = load_preset("fast", values)
    explainer = ttame.new_explainer(
        model.backbone, config.head, start=config.start, grid=config.grid
    )
    module = ExplainerTraining(explainer, config)
    module.log_dict = lambda *_, **__: None  # type: ignore[method-assign]
    module.trainer = SimpleNamespace(  # type: ignore[assignment]
        precision="32-true", should_stop=False, estimated_stepping_batches=10, global_step=0
    )
    module.setup("fit")
    pixels = step_pixels(model.backbone)
    model.record["step_input"] = list(pixels.shape[1:])
    # Another size is another statistic, which grows from layer to layer in deep networks.
    settle_norms(model.backbone.module, model.backbone.preprocessing.normalise(pixels))
    model.before = fingerprint(model.backbone.module)
    optimizer = module.configure_optimizers()["optimizer"]
    loss = module.train().training_step(Batch(pixels, torch.arange(len(pixels))), 0)
    if loss is None:
        raise FailedError("the loss is not finite")
    loss.backward()
    for name, parameter in module.attention.named_parameters():
        fault = gradient_fault(name, parameter.grad)
        if fault is not None:
            raise FailedError(fault)
    optimizer.step()


def unchanged(model: Model) -> None:
    """Compare the classifier's bits with those before."""
    if fingerprint(model.backbone.module) != model.before:
        raise FailedError("the classifier's weights or buffers have changed")


STAGES: tuple[Callable[[Model], None], ...] = (load, explain, train, unchanged)


@torch.no_grad()
def draw_weak(model: nn.Module, gain: float) -> None:
    """Draw the weights anew that multiply the deviation of a signal by at most ``gain``.

    Some start at zero, and a fixed deviation of 0.02, which suits wide layers, is little in narrow
    ones. Gains and biases (1-D) stay as they are.
    """
    for parameter in model.parameters():
        if parameter.ndim > 1:
            inputs = parameter[0].numel()
            if parameter.square().mean().sqrt() * inputs**0.5 <= gain:
                nn.init.normal_(parameter, std=inputs**-0.5)


@torch.no_grad()
def settle_norms(model: nn.Module, images: Tensor) -> None:
    """Take over the images' statistics in every batch normalisation.

    With those that it starts with, mean 0 and variance 1, it normalises nothing, and through many
    layers the signal may die out.
    """
    norms = [m for m in model.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 1.0
        norm.train()
    try:
        if norms:
            model(images)
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
            norm.eval()


def step_pixels(backbone: Backbone) -> Tensor:
    """Two pictures of noise: small where the classifier takes that, else of its own size."""
    channels, own = backbone.preprocessing.channels, backbone.preprocessing.crop
    if min(own) > SMALL:
        pixels = shifted_pictures(channels, (SMALL, SMALL), (0, 0))[:2]
        try:
            with torch.no_grad():
                features = backbone(backbone.preprocessing.normalise(pixels)).features
            if all(min(feature.shape[2:]) > 1 for feature in features):
                return pixels
        except Exception:  # a foreign forward may raise anything at another size
            pass
    return shifted_pictures(channels, own, (0, 0))[:2]


def gradient_fault(name: str, gradient: Tensor | None) -> str | None:
    """What is wrong with the gradient of a parameter of the attention mechanism, or None.

    Biases may have a gradient of zero: normalisations behind them take them out.
    """
    if gradient is None:
        return f"no gradient reaches {name}"
    if not torch.isfinite(gradient).all():
        return f"the gradient of {name} is not finite"
    if not name.endswith("bias") and not gradient.any():
        return f"the gradient of {name} is zero everywhere"
    return None


def _told(error: Exception) -> str:
    """An error in one line."""
    words = " ".join(str(error).split())
    told = f"{type(error).__name__}: {words}" if words else repr(error)
    return told if len(told) <= 300 else f"{told[:297]}..."
