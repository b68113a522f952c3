"""Looking once at a classifier at work: which layers give feature maps, and in which layout."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ttame.backbone.layers import Candidate
from ttame.backbone.layout import Layout, plane_layout, to_map, token_grid, token_layout
from ttame.backbone.linear import final_linear
from ttame.backbone.outputs import first_tensor, flat_logits
from ttame.backbone.token_order import Size, unrolled_layers


@dataclass(frozen=True)
class Probe:
    """What one forward pass of a classifier showed.

    Attributes:
        num_logits: The number of logits.
        image_size: Height and width of the probed input.
        candidates: Layers that give feature maps, in the order of execution.
        rejected: Why each other layer does not, by name.
        classifier: Names of the final linear layers whose mean gives the logits; empty where there
            are none.
    """

    num_logits: int
    image_size: Size
    candidates: tuple[Candidate, ...]
    rejected: dict[str, str]
    classifier: tuple[str, ...]


@dataclass
class _Record:
    """One call of one module."""

    name: str
    module: nn.Module
    output: Tensor | None
    version: int
    unchanged: bool
    picture: bool  # as many channels as the input has, and no layer with weights before it


def probe_images(size: Size, channels: int, like: nn.Module, batch: int = 2) -> Tensor:
    """Make seeded noise (B, C, h, w) on the device and in the type of a module's weights."""
    noise = torch.randn(batch, channels, *size, generator=torch.Generator().manual_seed(0))
    weight = next((p for p in like.parameters() if p.is_floating_point()), None)
    return noise if weight is None else noise.to(weight.device, weight.dtype)


@torch.inference_mode(False)  # in it, tensors count no versions
@torch.no_grad()
def probe(model: nn.Module, images: Tensor, which: str | int | None = None) -> Probe:
    """Run a classifier once and find its feature maps.

    The classifier is left as it was: hooks removed, training flags restored, not one bit of its
    state changed, the global random state untouched.

    Args:
        model: The classifier.
        images: Input (B, C, h, w); two images tell the batch axis from others.
        which: Which of the classifier's outputs are its logits; None finds them.

    Returns:
        What was found.

    Raises:
        UnknownNameError: The classifier has no such output.
        BackboneError: The classifier gives no logits.
    """
    batch, image = images.shape[0], (images.shape[2], images.shape[3])
    with (
        _evaluating(model),
        _own_random_state(images.device),
        _recording(model, images.shape[1]) as records,
    ):
        logits = flat_logits(model(images), batch, which)
        calls: dict[str, list[_Record]] = {}
        for record in records:
            calls.setdefault(record.name, []).append(record)
        candidates, rejected = _sort_out(model, calls, batch, image)
        once = {n: (c[0].module, c[0].output) for n, c in calls.items() if len(c) == 1}
        classifier = final_linear(once, logits)
    return Probe(logits.shape[1], image, tuple(candidates), rejected, classifier)


def _sort_out(
    model: nn.Module, calls: dict[str, list[_Record]], batch: int, image: Size
) -> tuple[list[Candidate], dict[str, str]]:
    """Divide all layers into feature maps and others, each of these with the reason."""
    rejected = {name: "it is not called" for name, _ in model.named_modules() if name not in calls}
    rejected.pop("", None)
    usable: list[_Record] = []
    for name, found in calls.items():
        reason = _refusal(found, batch)
        if reason is None:
            usable.append(found[0])
        else:
            rejected[name] = reason
    candidates: list[Candidate] = []
    producers: dict[tuple[int, int], str] = {}
    unrolled = unrolled_layers(model, list(calls))
    for record, found_layout in zip(usable, _layouts(model, usable, image), strict=True):
        output, layout = record.output, found_layout
        if output is None or layout is None:
            shape = () if output is None else tuple(output.shape)
            rejected[record.name] = f"its output of shape {shape} is no feature map"
            continue
        if record.name in unrolled and layout.order == "tokens":
            grid = token_grid(output.shape[1] - layout.prefix, image)
            strides = unrolled[record.name].get(grid, ()) if grid is not None else ()
            layout = layout._replace(strides=strides)
        shape = to_map(output, layout, image).shape
        candidates.append(
            Candidate(
                name=record.name,
                shape=(shape[1], shape[2], shape[3]),
                layout=layout,
                kind=type(record.module).__qualname__,
                needs_copy=output._version != record.version,
                producer=producers.setdefault((id(output), record.version), record.name),
                picture=record.picture,
            )
        )
    return candidates, rejected


def _refusal(calls: list[_Record], batch: int) -> str | None:
    """Why a layer's output cannot be a feature map whatever its layout; None where it can."""
    output = calls[0].output
    if len(calls) > 1:
        return f"it is called {len(calls)} times in one pass"
    if output is None:
        return "it returns no tensor"
    if output.ndim not in (3, 4) or output.shape[0] != batch or not output.is_floating_point():
        return f"its output of shape {tuple(output.shape)} for {batch} images is no feature map"
    return "it passes its input on unchanged" if calls[0].unchanged else None


def _layouts(model: nn.Module, records: list[_Record], image: Size) -> list[Layout | None]:
    """Find the layout of each output.

    Planes in doubt follow modules of their own class, or else their nearest neighbour.
    """
    declared = {
        prefix
        for module in model.modules()
        if isinstance(prefix := getattr(module, "num_prefix_tokens", None), int)
    }
    layouts: list[Layout | None] = []
    planes: list[Size] = []
    last_certain: Layout | None = None
    by_class = _certain_layouts(records, image)
    for record in records:
        shape = () if record.output is None else tuple(record.output.shape)
        if len(shape) == 3:
            layouts.append(token_layout(shape[1], image, planes, declared))
            continue
        layout, certain = plane_layout(shape, image)
        if certain:
            last_certain = layout
        elif layout is not None:
            alike = by_class.get(type(record.module), set())
            layout = next(iter(alike)) if len(alike) == 1 else last_certain or layout
        layouts.append(layout)
        if layout is not None:
            start = 1 if layout.order == "channels_last" else 2
            planes.append((shape[start], shape[start + 1]))
    return layouts


def _certain_layouts(records: list[_Record], image: Size) -> dict[type, set[Layout]]:
    """By the class of the module, the layouts of planes that are beyond doubt."""
    found: dict[type, set[Layout]] = {}
    for record in records:
        if record.output is not None and record.output.ndim == 4:
            layout, certain = plane_layout(tuple(record.output.shape), image)
            if certain and layout is not None:
                found.setdefault(type(record.module), set()).add(layout)
    return found


@contextmanager
def _recording(model: nn.Module, channels: int) -> Iterator[list[_Record]]:
    """Record every call of every submodule, in the order in which they end.

    Args:
        model: The classifier.
        channels: Of its input.
    """
    records: list[_Record] = []
    entered: dict[str, list[tuple[Tensor | None, int]]] = {}
    handles: list[Any] = []
    weighted = False

    def before(name: str) -> Any:
        def hook(_module: nn.Module, inputs: tuple[Any, ...]) -> None:
            tensor = first_tensor(inputs)
            entered.setdefault(name, []).append((tensor, 0 if tensor is None else tensor._version))

        return hook

    def after(name: str) -> Any:
        def hook(module: nn.Module, _inputs: tuple[Any, ...], result: Any) -> None:
            nonlocal weighted
            tensor, version = entered[name].pop()
            has_weights = next(module.parameters(), None) is not None
            weighted = weighted or has_weights
            output = first_tensor(result)
            # Only layers without weights: a block that starts as an identity learns to be none.
            unchanged = (
                output is not None
                and tensor is not None
                and tensor._version == version
                and not has_weights
                and output.shape == tensor.shape
                and torch.equal(output, tensor)
            )
            now = 0 if output is None else output._version
            picture = not weighted and output is not None and output.shape[1:2] == (channels,)
            records.append(_Record(name, module, output, now, unchanged, picture))

        return hook

    try:
        for name, module in model.named_modules():
            if name:
                handles.append(module.register_forward_pre_hook(before(name)))
                handles.append(module.register_forward_hook(after(name)))
        yield records
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Put every module in eval mode and restore each one's own flag afterwards."""
    flags = [(module, module.training) for module in model.modules()]
    try:
        model.eval()
        yield
    finally:
        for module, training in flags:
            module.training = training


@contextmanager
def _own_random_state(device: torch.device) -> Iterator[None]:
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        yield
