"""What a map follows: it should survive small noise, and differ from another class' map."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from ttame.errors import InputError
from ttame.metrics.measure import Metric, Scores, register
from ttame.metrics.similarity import is_constant, map_similarity

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from ttame.metrics.case import Case


def noisy(pixels: Tensor, std: float, draws: int, seeds: Sequence[int]) -> Tensor:
    """Add seeded normal noise to images in [0, 1].

    Args:
        pixels: (B, C, H, W) in [0, 1].
        std: Standard deviation of the noise on that scale.
        draws: How many noisy versions of each image.
        seeds: One per image; the noise depends on nothing else.

    Returns:
        (draws, B, C, H, W) in [0, 1].

    Raises:
        InputError: ``std`` is negative, ``draws`` below 1, or the number of seeds is not B.

    Example:
        >>> noisy(torch.zeros(1, 3, 2, 2), 0.0, 2, [7]).shape
        torch.Size([2, 1, 3, 2, 2])
    """
    if std < 0 or draws < 1 or len(seeds) != len(pixels):
        raise InputError(
            f"expected std >= 0, draws >= 1 and a seed for each of {len(pixels)} images, got "
            f"std={std}, draws={draws} and {len(seeds)} seeds"
        )
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    drawn = [torch.randn(draws, *pixels.shape[1:], generator=one) for one in generators]
    noise = torch.stack(drawn, dim=1).to(pixels.device)
    return (pixels + std * noise).clamp(0, 1)


def runner_up(logits: Tensor, classes: Tensor) -> Tensor:
    """Return the most probable class besides each image's own.

    Args:
        logits: (B, K) with K at least 2.
        classes: (B,) own classes.

    Returns:
        (B,) int64.

    Example:
        >>> runner_up(torch.tensor([[3.0, 1.0, 2.0]]), torch.tensor([0]))
        tensor([2])
    """
    return logits.scatter(1, classes[:, None], -torch.inf).argmax(dim=1)


@register(
    name="sensitivity",
    title="Similarity under noise",
    paper="after Yeh et al., NeurIPS 2019, arXiv 1901.09392; as a correlation: ours",
    needs=("maps",),
    options={"std": 0.02, "draws": 2, "correlation": "pearson"},
    metrics={"noise_similarity": Metric("similarity under noise", True, "%")},
)
def sensitivity(
    case: Case, std: float = 0.02, draws: int = 2, correlation: str = "pearson"
) -> Scores:
    """Explain each image again with a little noise on it, for the same class.

    Costs ``draws`` more explanations. A correlation is used, not the norm of the difference: norms
    favour maps of small area. By value, not by rank, because ranks order the faint background. A
    constant mask gets 0: a method must not win by saying nothing, or by giving NaN.

    Args:
        case: Photos, masks and the method.
        std: Of the noise, on the [0, 1] scale; 0.02 is 5 of 255 grey levels.
        draws: Noisy versions of each image, whose similarities are averaged.
        correlation: ``"pearson"`` or ``"spearman"``.

    Returns:
        ``noise_similarity`` in [-100, 100].

    Raises:
        InputError: An option is out of range.
    """
    versions = noisy(case.pixels, std, draws, case.seeds)
    found = [map_similarity(case.masks, case.masks_of(part), correlation) for part in versions]
    values = torch.stack(found).mean(dim=0)
    return Scores({"noise_similarity": values.masked_fill(is_constant(case.masks), 0)})


@register(
    name="class_swap",
    title="Similarity to another class",
    paper="after Adebayo et al., NeurIPS 2018, and Sixt et al., ICML 2020 (class sensitivity)",
    needs=("maps",),
    options={"correlation": "pearson"},
    metrics={"class_swap_similarity": Metric("similarity to another class", False, "%")},
    passes=lambda _: 1,
)
def class_swap(case: Case, correlation: str = "pearson") -> Scores:
    """Compare the map of the explained class with that of the next most probable class.

    A map that is the same for every class does not explain the class. Costs one forward pass and
    one more explanation. Near 0 is reached by noise as well: read it beside the other metrics.

    Args:
        case: Photos, masks and the method.
        correlation: ``"pearson"`` or ``"spearman"``.

    Returns:
        ``class_swap_similarity`` in [-100, 100].
    """
    others = runner_up(case.logits(case.pixels), case.classes)
    masks = case.masks_of(case.pixels, others)
    return Scores({"class_swap_similarity": map_similarity(case.masks, masks, correlation)})
