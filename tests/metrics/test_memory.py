from __future__ import annotations

import os

import pytest
import torch

from ttame.metrics.memory import peak_memory, running_peak

CPU = torch.device("cpu")
LARGE, SMALL = 1_000_000, 250_000  # float32: 4 and 1 MB


def test_the_peak_is_the_highest_level_above_the_start():
    assert running_peak([5, -5, 3, 4, -7, 6]) == 7
    assert running_peak([-5, 3]) == 3
    assert running_peak([]) == 0


def test_what_is_given_back_counts_no_more():
    with peak_memory(CPU) as peak:
        first = torch.zeros(LARGE)
        del first
        kept = [torch.zeros(SMALL) for _ in range(3)]
        assert peak.bytes is None
    assert peak.bytes == 4 * LARGE
    with peak_memory(CPU) as peak:
        first = torch.zeros(LARGE)
        kept += [torch.zeros(SMALL)]
        del first
    assert peak.bytes == 4 * (LARGE + SMALL)


def test_what_was_held_before_does_not_count():
    before = torch.ones(LARGE)
    with peak_memory(CPU) as peak:
        before.add_(1)
        del before
        after = torch.zeros(SMALL)
    assert 4 * SMALL <= peak.bytes < 4 * SMALL + 100
    assert len(after) == SMALL


def test_a_backward_pass_is_seen():
    weights = torch.ones(SMALL, requires_grad=True)
    with peak_memory(CPU) as peak:
        (gradient,) = torch.autograd.grad(weights.exp().sum(), weights)
    # The exponentials are kept for the gradient.
    assert 8 * SMALL <= peak.bytes < 12 * SMALL + 100
    assert gradient.shape == (SMALL,)


def test_the_same_computation_has_the_same_peak():
    layer, images = torch.nn.Conv2d(3, 8, 3), torch.zeros(2, 3, 32, 32)
    layer(images)
    peaks = []
    for _ in range(3):
        with peak_memory(CPU) as peak:
            layer(images)
        peaks.append(peak.bytes)
    assert peaks == [peaks[0]] * 3
    assert peaks[0] >= 4 * 2 * 8 * 30 * 30


def test_other_devices_and_profiled_callers_get_none_and_keep_their_own():
    with peak_memory(torch.device("meta")) as peak:
        torch.zeros(10)
    assert peak.bytes is None
    with torch.autograd.profiler.profile(profile_memory=True) as own:
        with peak_memory(CPU) as peak:
            torch.zeros(LARGE)
        torch.ones(3)
    assert peak.bytes is None
    assert {event.name for event in own.function_events} >= {"aten::zeros", "aten::ones"}


def test_an_exception_passes_and_nothing_stays():
    before = dict(os.environ)
    with pytest.raises(KeyError), peak_memory(CPU):
        raise KeyError
    assert not torch._C._autograd._profiler_enabled()
    assert dict(os.environ) == before


def test_the_peak_of_a_gpu_is_that_of_its_allocator(gpu):
    kept = torch.zeros(LARGE, device=gpu)
    with peak_memory(gpu) as peak:
        torch.zeros(LARGE, device=gpu).add_(kept)
    assert 4 * LARGE <= peak.bytes < 4 * LARGE + 2**21
