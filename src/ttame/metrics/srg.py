"""SRG: the symmetric relevance gain, pixel flipping in both directions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from ttame.errors import InputError
from ttame.metrics.fills import fill_photos
from ttame.metrics.measure import Metric, Scores, register
from ttame.metrics.perturbation import (
    counts,
    exchanging,
    logits_along,
    mean_height,
    of_classes,
    removal_ranks,
)

if TYPE_CHECKING:
    from torch import Tensor

    from ttame.metrics.case import Case

DEFAULT_CELL = 16
DEFAULT_STEPS = 100


def grid_of(size: tuple[int, int], cell: int) -> tuple[int, int]:
    """Return how many rows and columns of cells about ``cell`` pixels wide fill an image.

    Raises:
        InputError: ``cell`` is less than 1.

    Example:
        >>> grid_of((224, 224), 16), grid_of((32, 50), 16)
        ((14, 14), (2, 3))
    """
    if cell < 1:
        raise InputError(f"expected cells of at least 1 pixel, got {cell}")
    return max(1, round(size[0] / cell)), max(1, round(size[1] / cell))


def cell_numbers(size: tuple[int, int], grid: tuple[int, int]) -> Tensor:
    """Number the cells row by row and return each pixel's, (H, W); sides differ by 1 at most.

    Example:
        >>> cell_numbers((2, 5), (1, 2))
        tensor([[0, 0, 0, 1, 1],
                [0, 0, 0, 1, 1]])
    """
    rows, columns = (
        torch.arange(side) * cells // side for side, cells in zip(size, grid, strict=True)
    )
    return rows[:, None] * grid[1] + columns


def cell_means(masks: Tensor, numbers: Tensor) -> Tensor:
    """Average masks (B, H, W) over cells numbered (H, W): (B, N) float64."""
    flat = numbers.flatten()
    sums = masks.new_zeros(len(masks), int(flat.max()) + 1, dtype=torch.float64)
    sums.index_add_(1, flat, masks.double().flatten(1))
    # Equal masks must give equal means, also in cells of different sizes.
    return (sums / flat.bincount()).round(decimals=12)


def relevance_gain(least_first: Tensor, most_first: Tensor) -> Tensor:
    """Return the mean height between curves of class logits (B, S + 1): (B,).

    Example:
        >>> relevance_gain(torch.tensor([[4.0, 4.0, 0.0]]), torch.tensor([[4.0, 1.0, 0.0]]))
        tensor([1.5000])
    """
    return mean_height(least_first) - mean_height(most_first)


@register(
    name="srg",
    title="Symmetric relevance gain",
    paper="Bluecher et al., TMLR 2024 (arXiv 2401.06654)",
    metrics={"srg": Metric("SRG", True)},
    options={"steps": DEFAULT_STEPS, "cell": DEFAULT_CELL, "fill": "photo_mean"},
    passes=lambda options: 2 * options["steps"],
    slow=True,
)
def srg(
    case: Case,
    steps: int = DEFAULT_STEPS,
    cell: int = DEFAULT_CELL,
    fill: str = "photo_mean",
) -> Scores:
    """Occlude cells, in both orders, and compare the class' logits.

    ``SRG = (AUC of least influential first - AUC of most influential first) / steps``: the mean
    difference in logits. A random map has the expectation 0, the negated map the negated value,
    and a map that is the same in all cells exactly 0.

    Args:
        case: Photos and masks.
        steps: Equal steps from no cell to all cells; at most as many as there are cells.
        cell: About how many pixels a cell is high and wide. Its influence is the mask's mean in it.
        fill: What occludes them, one of :data:`ttame.metrics.fills.FILLS`; the photo's own mean
            colour is the paper's.

    Returns:
        ``srg``, in units of the logit; curves ``srg_least_first`` and ``srg_most_first``, the class
        logits (B, steps + 1).

    Raises:
        InputError: There are fewer than 1 steps, or the cells are smaller than 1 pixel.
        UnknownNameError: The fill is unknown.
    """
    numbers = cell_numbers(case.size, grid_of(case.size, cell)).to(case.pixels.device)
    influence = cell_means(case.masks, numbers)
    cells = influence.shape[1]
    removed = counts(cells, min(steps, cells))
    occluded = fill_photos(case, fill)

    def curve(most_first: bool, numbers_removed: list[int]) -> Tensor:
        ranks = removal_ranks(influence[:, None], case.seeds, most_first)[:, 0]
        when = ranks[:, numbers][:, None]
        logits = logits_along(case, numbers_removed, exchanging(when, case.pixels, occluded))
        return of_classes(logits, case.classes)

    most = curve(True, removed)
    # Both orders begin and end with the same photo.
    between = curve(False, removed[1:-1]) if len(removed) > 2 else most[:, :0]
    least = torch.cat([most[:, :1], between, most[:, -1:]], dim=1)
    curves = {"srg_least_first": least, "srg_most_first": most}
    return Scores({"srg": relevance_gain(least, most)}, curves)
