"""Tokens that are not row by row, because their classifier takes the picture apart (Hiera).

So that a window of tokens lies together, Hiera *unrolls* the grid: by strides (s, t) it sorts the
tokens by their row within s rows and their column within t columns first, and by the window only
then; what is in a window may be taken apart again. Pooling a window undoes one such step.
(Ryali et al., "Hiera", ICML 2023.)
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from torch import Tensor, nn

Size = tuple[int, int]
Strides = tuple[Size, ...]


def in_rows(tokens: Tensor, grid: Size, strides: Sequence[Size]) -> Tensor:
    """Bring tokens (B, N, C) back to their places in the picture.

    Args:
        tokens: Without prefix; N is the number of cells of the grid.
        grid: Rows and columns.
        strides: Of the unrolling steps, the first one first; their product divides the grid.
            Without steps, the tokens are row by row.

    Returns:
        (B, C, H, W).

    Example:
        >>> import torch
        >>> in_rows(torch.tensor([0, 2, 4, 6, 1, 3, 5, 7]).view(1, 8, 1), (2, 4), [(1, 2)])[0, 0]
        tensor([[0, 1, 2, 3],
                [4, 5, 6, 7]])
    """
    down, across = (math.prod(step[axis] for step in strides) for axis in (0, 1))
    batch, _, channels = tokens.shape
    inside = [side for step in strides for side in step]
    unrolled = tokens.reshape(batch, *inside, grid[0] // down, grid[1] // across, channels)
    # Axes: rows and columns within the first windows, within the second ..., of windows.
    last = unrolled.ndim - 1
    rows, columns = range(last - 2, 0, -2), range(last - 1, 1, -2)
    return unrolled.permute(0, last, *rows, *columns).reshape(batch, channels, *grid)


def unrolled_layers(model: nn.Module, called: Sequence[str]) -> dict[str, dict[Size, Strides]]:
    """Find the layers that give unrolled tokens, and by which strides, for each size of the grid.

    A classifier tells the steps that are left at each size, as timm's and transformers' Hiera do:
    a dictionary ``schedule`` of pairs (strides, size), in a module of the network. In this network
    everything is unrolled from its layer ``unroll`` on, or from the first layer within the module
    that holds the schedule.

    Args:
        model: The classifier.
        called: All its layers that are called, in the order of execution.

    Example:
        >>> unrolled_layers(nn.Linear(2, 2), ["layer"])
        {}
    """
    found: dict[str, dict[Size, Strides]] = {}
    for holder, module in model.named_modules():
        left = dict(_steps_left(getattr(module, "schedule", None)))
        if not left:
            continue
        network = holder.rpartition(".")[0]
        starts = [f"{network}.unroll." if network else "unroll."]
        starts += [f"{holder}."] if holder else []
        within = [name for name in called if not network or f"{name}.".startswith(f"{network}.")]
        first = next((n for n, x in enumerate(within) if f"{x}.".startswith(tuple(starts))), None)
        if first is not None:
            found.update(dict.fromkeys(within[first:], left))
    return found


def _steps_left(schedule: Any) -> Iterator[tuple[Size, Strides]]:
    """Read (strides, size) pairs of two sides each; nothing from what looks otherwise."""
    if not isinstance(schedule, Mapping):
        return
    with contextlib.suppress(TypeError, ValueError):
        for strides, (rows, columns) in schedule.values():
            yield (int(rows), int(columns)), tuple((int(s), int(t)) for s, t in strides)
