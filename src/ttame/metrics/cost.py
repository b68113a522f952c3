"""What an explanation costs: passes of the classifier, time and memory."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from ttame.backbone.outputs import first_tensor, part_of
from ttame.errors import InputError
from ttame.metrics.memory import peak_memory

if TYPE_CHECKING:
    from torch import Tensor, nn

    from ttame.backbone.contract import Backbone
    from ttame.methods.registry import Method


@dataclass
class Passes:
    """Passes of the classifier, counted in images: a batch of 8 is 8 passes.

    Attributes:
        forward: Images classified.
        backward: Images through whose logits a gradient flowed back, once for each backward call.
    """

    forward: int = 0
    backward: int = 0


@contextmanager
def count_passes(backbone: Backbone) -> Iterator[Passes]:
    """Count the classifier's forward and backward passes while the context is open.

    A hook on the classifier sees every call of it, and a hook on the tensors it returned sees every
    gradient that flows back from them. Not seen: calls of single layers past the classifier, and
    calls of copies of it. All hooks are gone afterwards, after an exception too.

    Args:
        backbone: The classifier; left exactly as it was.

    Yields:
        The counts, which grow as the passes are made.

    Example:
        >>> from ttame.backbone.registry import load_backbone
        >>> backbone = load_backbone("timm/test_resnet", pretrained=False)
        >>> with count_passes(backbone) as passes:
        ...     _ = backbone.logits(torch.zeros(3, 3, 160, 160))
        >>> passes
        Passes(forward=3, backward=0)
    """
    passes = Passes()
    handles: list[Any] = []

    def count(_module: nn.Module, inputs: Any, keywords: Any, output: Any) -> None:
        batch = first_tensor((inputs, keywords))
        images = 1 if batch is None else len(batch)
        passes.forward += images
        # The very tensor that a gradient of the logits passes through, in whatever shape.
        logits = first_tensor(part_of(output, backbone.logits_part))
        if logits is not None and logits.requires_grad:
            seen = logits.register_hook(lambda _: backward(images))  # type: ignore[no-untyped-call]
            handles.append(seen)

    def backward(images: int) -> None:
        passes.backward += images

    hook = backbone.module.register_forward_hook(count, with_kwargs=True)
    try:
        yield passes
    finally:
        hook.remove()
        for handle in handles:
            handle.remove()


@dataclass(frozen=True)
class Cost:
    """What a method costs per image, for all classes asked for.

    Attributes:
        forward: Forward passes of the classifier.
        backward: Backward passes of the classifier.
        milliseconds: Median time.
        peak_memory: Most bytes that the call held on the device at once beyond what was there
            before, for the whole batch; None where :func:`ttame.metrics.memory.peak_memory` cannot
            tell.
        device: Where it was measured.
        batch: Images per call.
    """

    forward: float
    backward: float
    milliseconds: float
    peak_memory: int | None
    device: str
    batch: int


def measure_cost(
    method: Method, backbone: Backbone, images: Tensor, classes: Tensor, repeats: int = 5
) -> Cost:
    """Measure a method carefully: warm up once, count once, then take the median time.

    The warm-up call pays for what happens once per classifier, for example the search for a layer.

    Args:
        method: From :func:`ttame.methods.registry.get_method`.
        backbone: The classifier, on the device to measure.
        images: Its normalised input, (B, C, H, W) with B at least 1.
        classes: (B, n) class indices.
        repeats: Timed calls.

    Raises:
        InputError: There are no images, or ``repeats`` is below 1.
    """
    if repeats < 1 or not len(images):
        raise InputError(
            f"expected repeats >= 1 and at least one image, got {repeats} and {len(images)} images"
        )
    method(backbone, images, classes)
    with count_passes(backbone) as passes, peak_memory(images.device) as memory:
        method(backbone, images, classes)
    seconds = []
    for _ in range(repeats):
        _wait(images.device)
        start = time.perf_counter()
        method(backbone, images, classes)
        _wait(images.device)
        seconds.append(time.perf_counter() - start)
    count = len(images)
    return Cost(
        forward=passes.forward / count,
        backward=passes.backward / count,
        milliseconds=1000 * statistics.median(seconds) / count,
        peak_memory=memory.bytes,
        device=str(images.device),
        batch=count,
    )


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
