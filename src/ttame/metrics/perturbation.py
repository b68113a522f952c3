"""What the perturbation metrics share: orders of removal, steps, and passes over changed photos."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from ttame.errors import InputError
from ttame.metrics.shares import pixel_ranks

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

    from ttame.metrics.case import Case


def removal_ranks(importance: Tensor, seeds: Sequence[int], most_first: bool) -> Tensor:
    """Return when each place goes: 0 for the first.

    Equal values go in the same seeded random order in both directions. The two directions of a map
    are therefore exactly the other two of the negated map, and a constant map scores the same in
    both.

    Args:
        importance: (B, H, W), any range, without NaN.
        seeds: One seed per image.
        most_first: Start with the most important place.

    Returns:
        (B, H, W) int64; the first k to go are those with a rank below k.

    Example:
        >>> removal_ranks(torch.tensor([[[0.1, 0.9], [0.5, 0.3]]]), [0], most_first=True)
        tensor([[[3, 0], [1, 2]]])
    """
    return pixel_ranks(-importance if most_first else importance, seeds)


def counts(places: int, steps: int) -> list[int]:
    """Return how many of the places are changed after 0, 1, ..., ``steps`` equal steps.

    Raises:
        InputError: There are fewer than 1 steps.

    Example:
        >>> counts(10, 4)
        [0, 2, 5, 8, 10]
    """
    if steps < 1:
        raise InputError(f"expected at least 1 step, got {steps}")
    return [round(step * places / steps) for step in range(steps + 1)]


def exchanging(ranks: Tensor, start: Tensor, end: Tensor) -> Callable[[Sequence[int]], Tensor]:
    """Return what makes the photos where so many places are exchanged, see :func:`logits_along`.

    Args:
        ranks: (B, 1, H, W) when each pixel goes.
        start: (B, C, H, W) or what broadcasts to it: the pixels before they go.
        end: The pixels afterwards.
    """
    return lambda group: torch.cat([torch.where(ranks < count, end, start) for count in group])


def logits_along(
    case: Case,
    changes: Sequence[int],
    changed: Callable[[Sequence[int]], Tensor],
    held: int | None = None,
) -> Tensor:
    """Classify a series of changed photos without holding all of them at once.

    Args:
        case: The photos; ``case.batch_size`` of them go into each pass.
        changes: What to give to ``changed``, S of them.
        changed: Makes the photos of N of these changes: the whole batch once for each, one below
            the other, (N * B, C, H, W) in [0, 1].
        held: How many changed photos are made at once, which does not change the result; None:
            as many as go into a pass.

    Returns:
        (B, S, K) float64 logits.
    """
    images = len(case.pixels)
    together = max(1, (held or case.batch_size) // images)
    parts = []
    for start in range(0, len(changes), together):
        group = changes[start : start + together]
        parts.append(case.logits(changed(group)).view(len(group), images, -1))
    return torch.cat(parts).transpose(0, 1)


def of_classes(values: Tensor, classes: Tensor) -> Tensor:
    """Pick each image's class: (B, S, K) and (B,) give (B, S)."""
    return values.gather(2, classes[:, None, None].expand(-1, values.shape[1], 1))[..., 0]


def mean_height(curves: Tensor) -> Tensor:
    """Return the area under curves (B, S) over [0, 1] by the trapezoid rule: (B,).

    Example:
        >>> mean_height(torch.tensor([[0.0, 1.0, 0.0]]))
        tensor([0.5000])
    """
    return torch.trapezoid(curves, dim=1) / (curves.shape[1] - 1)
