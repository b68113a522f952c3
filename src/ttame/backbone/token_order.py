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
    """Bring unrolled tokens (B, N, C) back to their places in the picture.

    Args:
        tokens: Without prefix; N is the number of cells of the grid.
        grid: Rows and columns.
        strides: Of the unrolling steps, the first one first; their product divides the grid.

    Returns:
        (B, C, H, W).

    Example:
        >>> import torch
        >>> in_rows(torch.tensor([0, 2, 4, 6, 1, 3, 5, 7]).view(1, 8, 1), (2, 4), [(1, 2)])[0, 0]
        tensor([[0, 1, 2, 3],
                [4, 5, 6, 7]])
    """
    down, across = (math.prod(sides) for sides in zip(*strides, strict=True))
    batch, _, channels = tokens.shape
    inside = [side for step in strides for side in step]
    unrolled = tokens.reshape(batch, *inside, grid[0] // down, grid[1] // across, channels)
    # Axes: rows and columns within the first windows, within the second ..., of windows.
    last = unrolled.ndim - 1
    rows, columns = range(last - 2, 0, -2), range(last - 1, 1, -2)
    return unrolled.permute(0, last, *rows, *columns).reshape(batch, channels, *grid)


class TokenOrder:
    """Which layers of a classifier give unrolled tokens.

    A classifier tells the steps that are left for each size of the grid, as timm's and
    transformers' Hiera do: a dictionary ``schedule`` of pairs (strides, size). Everything is
    unrolled from the layer ``unroll`` on, or from the first one within the module that holds the
    schedule.

    Args:
        model: The classifier.

    Example:
        >>> TokenOrder(nn.Linear(2, 2)).strides("layer", (14, 14))
        ()
    """

    def __init__(self, model: nn.Module) -> None:
        self._left: dict[Size, Strides] = {}
        self._starts: tuple[str, ...] = ()  # with none, no name starts so
        self._unrolled = False
        for name, module in model.named_modules():
            left = dict(_steps_left(getattr(module, "schedule", None)))
            if left:
                parent = name.rpartition(".")[0]
                self._left = left
                self._starts = (f"{parent}.unroll.".lstrip("."), f"{name}.")

    def strides(self, name: str, grid: Size | None) -> Strides:
        """Strides that a layer's grid is unrolled by; to be asked in the order of execution."""
        self._unrolled = self._unrolled or f"{name}.".startswith(self._starts)
        return self._left.get(grid, ()) if self._unrolled and grid is not None else ()


def _steps_left(schedule: Any) -> Iterator[tuple[Size, Strides]]:
    """Read (strides, size) pairs of two sides each; nothing from what looks otherwise."""
    if not isinstance(schedule, Mapping):
        return
    with contextlib.suppress(TypeError, ValueError):
        for strides, (rows, columns) in schedule.values():
            yield (int(rows), int(columns)), tuple((int(s), int(t)) for s, t in strides)
