"""How much memory a computation holds at its peak, as PyTorch's own allocators count it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING

import torch
from torch.autograd.profiler import profile

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

# What the profiler calls an event of the allocator.
_MEMORY = "[memory]"
# The profiler's own remarks, for example on a missing driver, are no concern of the user.
_QUIET = {"KINETO_LOG_LEVEL": "99"}


@dataclass
class Peak:
    """The peak of a computation's memory.

    Attributes:
        bytes: Most bytes held at once above what was held before; None until the computation has
            ended, and where it could not be measured.
    """

    bytes: int | None = None


def running_peak(changes: Iterable[int]) -> int:
    """Return the highest level that a sequence of changes reaches above its start, at least 0.

    Args:
        changes: Bytes taken (positive) and given back (negative), in the order of time. More given
            back than taken was held before, which does not count.

    Example:
        >>> running_peak([100, 50, -100, 80, -130]), running_peak([-500, 70])
        (150, 70)
    """
    return max(accumulate(changes, lambda level, change: max(0, level + change), initial=0))


@contextmanager
def peak_memory(device: torch.device) -> Iterator[Peak]:
    """Measure the most memory that PyTorch holds on a device while the context is open.

    On a GPU it is the allocator's own peak. On a CPU every allocation is recorded by PyTorch's
    profiler, which slows the computation down a little: do not time it meanwhile. Memory that
    NumPy or Python take is not seen, nor is memory returned that was taken before.

    Args:
        device: Where the computation takes place.

    Yields:
        The peak, filled in when the context closes; it stays None on other devices than CPU and
        CUDA, and on the CPU where the caller is profiling already.

    Example:
        >>> with peak_memory(torch.device("cpu")) as peak:
        ...     _ = torch.zeros(1000).clone()
        >>> peak.bytes
        8000
    """
    watch = _WATCHES.get(device.type)
    peak = Peak()
    if watch is None:
        yield peak
        return
    with watch(device, peak):
        yield peak


@contextmanager
def _watch_cpu(_device: torch.device, peak: Peak) -> Iterator[None]:
    # Profilers do not nest: a second one would end the caller's.
    if torch._C._autograd._profiler_enabled():
        yield
        return
    with _environment(_QUIET), profile(profile_memory=True) as profiler:
        yield
    if profiler.kineto_results is not None:
        events = [item for item in profiler.kineto_results.events() if item.name() == _MEMORY]
        events.sort(key=lambda item: item.start_ns())
        peak.bytes = running_peak(item.nbytes() for item in events)


@contextmanager
def _watch_cuda(device: torch.device, peak: Peak) -> Iterator[None]:
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    yield
    torch.cuda.synchronize(device)
    peak.bytes = torch.cuda.max_memory_allocated(device) - before


_WATCHES: dict[str, Callable[[torch.device, Peak], AbstractContextManager[None]]] = {
    "cpu": _watch_cpu,
    "cuda": _watch_cuda,
}


@contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    """Set environment variables that are not set, and remove them afterwards."""
    added = {name: value for name, value in values.items() if name not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)
