"""Whether a map follows the classifier: its weights are randomised, layer by layer from the top."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import torch
from torch import nn

from ttame.backbone.contract import Backbone
from ttame.backbone.fingerprint import fingerprint
from ttame.backbone.probe import probe_images
from ttame.errors import BackboneError, InputError, unknown_name
from ttame.methods.registry import Method
from ttame.metrics.measure import Metric, Scores, register
from ttame.metrics.similarity import map_similarity

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any

    from ttame.metrics.case import Case, MapFunction

RULES = ("redraw", "reset")

# Of more steps than this the copies would fill the memory.
_KEPT = 10

_Key = tuple[object, ...]
# The randomised copies of a classifier serve every batch and method; they go with the classifier.
_COPIES: WeakKeyDictionary[Backbone, tuple[_Key, list[Backbone]]] = WeakKeyDictionary()


def layers_from_the_top(backbone: Backbone) -> list[str]:
    """Name the classifier's modules with weights of their own, last executed first.

    A module that is never called itself, only its weights are used, counts where the module around
    it is called. The classifier is run once, on one image of seeded noise.

    Example:
        >>> from ttame.backbone.registry import load_backbone
        >>> layers_from_the_top(load_backbone("timm/test_resnet", pretrained=False))[0]
        'fc'
    """
    model = backbone.module
    first: dict[str, int] = {}
    names = {module: name for name, module in model.named_modules()}

    def note(module: nn.Module, _inputs: Any) -> None:
        first.setdefault(names[module], len(first))

    handles = [module.register_forward_pre_hook(note) for module in names]
    preprocessing = backbone.preprocessing
    try:
        with torch.no_grad():
            backbone.logits(probe_images(preprocessing.crop, preprocessing.channels, model, 1))
    finally:
        for handle in handles:
            handle.remove()

    def called(name: str) -> int:
        while name not in first and name:
            name = name.rpartition(".")[0]
        return first.get(name, 0)

    # Of modules called at the same place the one that comes later in the model counts as higher.
    owners = enumerate(name for module, name in names.items() if _own_weights(module))
    ordered = sorted(owners, key=lambda owner: (called(owner[1]), owner[0]), reverse=True)
    return [name for _, name in ordered]


@torch.inference_mode(False)
@torch.no_grad()
def randomised_copy(
    backbone: Backbone, layers: list[str], seed: int = 0, rule: str = "redraw"
) -> Backbone:
    """Copy a classifier and randomise the weights of some of its layers.

    Args:
        backbone: Left exactly as it is.
        layers: Names of modules, from :func:`layers_from_the_top`. A layer's new weights depend on
            the seed and the layer's place in this list, so longer lists extend shorter ones.
        seed: Of all that is drawn.
        rule: ``"redraw"`` draws every weight tensor anew from a normal distribution with its own
            mean and standard deviation, which keeps signals alive through deep classifiers.
            ``"reset"`` calls each module's ``reset_parameters``, PyTorch's start of a training
            (the others are redrawn): in deep classifiers the signal dies away, and so does the map.

    Returns:
        A copy on the same device, with a fingerprint of its own.

    Raises:
        UnknownNameError: The rule is unknown.
        BackboneError: The classifier cannot be copied.
    """
    if rule not in RULES:
        raise unknown_name("rule", rule, RULES)
    device = next((p.device for p in backbone.parameters()), torch.device("cpu"))
    try:
        copied = deepcopy(backbone)
    except (RuntimeError, TypeError, NotImplementedError) as error:
        raise BackboneError(
            f"the classifier {backbone.identity.name!r} cannot be copied to randomise its weights "
            f"({error}); leave the measure 'randomisation' out"
        ) from error
    copied.cpu()  # draws do not depend on the device
    for place, name in enumerate(layers):
        module = copied.module.get_submodule(name)
        reset = getattr(module, "reset_parameters", None)
        if rule == "reset" and callable(reset):
            with torch.random.fork_rng(devices=[]):
                torch.default_generator.manual_seed(seed + place)
                reset()
        else:
            _redraw(module, torch.Generator().manual_seed(seed + place))
    copied.weights_changed()
    name = f"{backbone.identity.name}, {len(layers)} layers randomised"
    copied.identity = replace(backbone.identity, name=name, fingerprint=fingerprint(copied.module))
    return copied.to(device)


def depths(layers: int, steps: int) -> list[int]:
    """Return how many layers are randomised at each step: the head only, ..., all.

    Args:
        layers: Number of layers with weights.
        steps: Number of steps; a single one randomises all, 0 takes one for every layer.

    Returns:
        Different numbers; fewer than ``steps`` where some would be the same.

    Raises:
        InputError: ``steps`` is negative.

    Example:
        >>> depths(50, 3), depths(50, 1), depths(4, 0)
        ([1, 25, 50], [50], [1, 2, 3, 4])
    """
    if steps < 0:
        raise InputError(
            f"expected steps of randomisation, or 0 for one at every layer, got {steps}"
        )
    if steps == 1:
        return [layers]
    if steps == 0 or steps >= layers:
        return list(range(1, layers + 1))
    spread = (max(1, round(layers * step / (steps - 1))) for step in range(steps))
    return list(dict.fromkeys(spread))


@register(
    name="randomisation",
    title="Similarity after randomisation of the classifier",
    paper="Adebayo et al., NeurIPS 2018, arXiv 1810.03292 (cascading)",
    needs=("maps",),
    options={"steps": 3, "rule": "redraw", "correlation": "spearman", "seed": 0},
    metrics={"randomised_similarity": Metric("similarity after randomisation", False, "%")},
    slow=True,
)
def randomisation(
    case: Case,
    steps: int = 3,
    rule: str = "redraw",
    correlation: str = "spearman",
    seed: int = 0,
) -> Scores:
    """Explain the same class of each image with the classifier's weights randomised step by step.

    A map that stays the same does not follow the classifier. The explanation mechanism is fixed: a
    trained one keeps its parameters, over the randomised classifier. Costs ``steps`` more
    explanations; the copies, ``steps`` times the classifier's weights in memory, are made once per
    classifier, or, of more than ten, again for every batch. Near 0 is reached by noise as
    well: read it beside the other metrics.

    Args:
        case: Photos, masks and the method.
        steps: Depths of randomisation, from the last layer to all, as in the paper with 0, which
            takes every layer; see :func:`depths`.
        rule: See :func:`randomised_copy`.
        correlation: ``"spearman"`` as in the paper, or ``"pearson"``.
        seed: Of the random weights, the same for all images.

    Returns:
        ``randomised_similarity`` in [-100, 100], the mean over the steps; the curve of that name
        has the steps.

    Raises:
        InputError: An option is out of range.
        BackboneError: The classifier cannot be copied, or the method cannot explain a copy.
    """
    found = [
        map_similarity(case.masks, _on_copy(case, copied).masks_of(case.pixels), correlation)
        for copied in _copies(case.backbone, steps, rule, seed)
    ]
    curve = torch.stack(found, dim=1)
    return Scores({"randomised_similarity": curve.mean(dim=1)}, {"randomised_similarity": curve})


def _on_copy(case: Case, copied: Backbone) -> Case:
    method: MapFunction = case.explain
    if isinstance(method, Method) and method.rebind is not None:
        method = method.rebind(copied)
    return replace(case, backbone=copied, explain=method)


def _copies(backbone: Backbone, steps: int, rule: str, seed: int) -> Iterable[Backbone]:
    if steps == 0 or steps > _KEPT:
        return _made(backbone, steps, rule, seed)
    device = next((str(p.device) for p in backbone.parameters()), "cpu")
    key = (steps, rule, seed, device)
    known = _COPIES.get(backbone)
    if known is None or known[0] != key:
        known = _COPIES[backbone] = (key, list(_made(backbone, steps, rule, seed)))
    return known[1]


def _made(backbone: Backbone, steps: int, rule: str, seed: int) -> Iterator[Backbone]:
    layers = layers_from_the_top(backbone)
    for depth in depths(len(layers), steps):
        yield randomised_copy(backbone, layers[:depth], seed, rule)


def _own_weights(module: nn.Module) -> bool:
    return any(p.is_floating_point() for p in module.parameters(recurse=False))


def _redraw(module: nn.Module, generator: torch.Generator) -> None:
    for weight in module.parameters(recurse=False):
        if weight.is_floating_point():
            values = weight.float()
            drawn = torch.randn(weight.shape, generator=generator)
            weight.copy_(values.mean() + values.std(correction=0) * drawn)
