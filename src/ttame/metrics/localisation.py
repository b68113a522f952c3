"""Whether a map is where people marked the class: in its boxes, or in its segmentation mask."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

from ttame.errors import InputError
from ttame.metrics.measure import Metric, Scores, register
from ttame.metrics.shares import pixel_ranks

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

    from ttame.metrics.case import Case, Truth

# Pixels this close to the highest value share the peak: rounding noise does not choose among them.
_TOLERANCE = 1e-6


def box_region(boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """Return the pixels in any of the boxes.

    A pixel is in a box if its centre is; its column ``j`` has its centre at ``j + 0.5``.

    Args:
        boxes: (n, 4) corners x0, y0, x1, y1 in pixels, x1 and y1 excluded; n may be 0.
        size: Height and width of the image.

    Returns:
        (H, W) boolean.

    Example:
        >>> box_region(torch.tensor([[1.0, 0.0, 3.0, 1.0]]), (2, 4)).int().tolist()
        [[0, 1, 1, 0], [0, 0, 0, 0]]
    """
    rows, columns = (torch.arange(side, device=boxes.device) + 0.5 for side in size)
    x0, y0, x1, y1 = (corner[:, None] for corner in boxes.unbind(dim=1))
    across = (columns >= x0) & (columns < x1)
    down = (rows >= y0) & (rows < y1)
    return (down[:, :, None] & across[:, None, :]).any(dim=0)


def widened(regions: Tensor, pixels: int) -> Tensor:
    """Add to regions (B, H, W) every pixel at most so many pixels away from one of theirs.

    Example:
        >>> widened(torch.tensor([[[True, False, False]]]), 1).int().tolist()
        [[[1, 1, 0]]]
    """
    steps = torch.arange(-pixels, pixels + 1, device=regions.device)
    disc = (steps[:, None] ** 2 + steps**2 <= pixels**2).float()
    near = F.conv2d(regions[:, None].float(), disc[None, None], padding=pixels)
    return near[:, 0] > 0.5


def pointing(masks: Tensor, regions: Tensor) -> Tensor:
    """Return 100 where the mask's peak lies in the region, 0 where not.

    Higher is better. Zhang et al., "Top-down neural attention by excitation backprop", IJCV 2018;
    its tolerance of 15 pixels is that of a :func:`widened` region. Where several pixels share the
    peak (within 1e-6) it is the share of them inside, the expectation of picking one at random: a
    constant mask gets the region's share of the image, neither a sure hit nor a sure miss.

    Args:
        masks: (B, H, W) in [0, 1], without NaN.
        regions: (B, H, W) boolean.

    Returns:
        (B,) float64 in [0, 100].

    Example:
        >>> pointing(torch.tensor([[[0.2, 0.9, 0.9]]]), torch.tensor([[[True, True, False]]]))
        tensor([50.], dtype=torch.float64)
    """
    peaks = masks >= masks.amax(dim=(1, 2), keepdim=True) - _TOLERANCE
    return energy(peaks.double(), regions)


def energy(masks: Tensor, regions: Tensor) -> Tensor:
    """Return which share of the mask's mass lies in the region, in percent.

    Higher is better. The energy-based pointing game of Wang et al., "Score-CAM", CVPR Workshops
    2020. A mask without mass counts as a constant one: it gets the region's share of the image.

    Args:
        masks: (B, H, W), not negative, without NaN.
        regions: (B, H, W) boolean.

    Returns:
        (B,) float64 in [0, 100].

    Example:
        >>> energy(torch.tensor([[[0.2, 0.6, 0.2]]]), torch.tensor([[[True, True, False]]]))
        tensor([80.0000], dtype=torch.float64)
    """
    mass = masks.double().flatten(1)
    none = mass.sum(dim=1, keepdim=True) == 0
    mass = torch.where(none, torch.ones_like(mass), mass)
    return 100 * (mass * regions.flatten(1)).sum(dim=1) / mass.sum(dim=1)


def intersection_over_union(
    masks: Tensor, regions: Tensor, seeds: Sequence[int], threshold: float | None = None
) -> Tensor:
    """Return the overlap of the mask's highest pixels with the region, over their union, in %.

    Higher is better. By default exactly as many pixels are taken as the region has, equal values
    in seeded random order: the score then depends on the order of the pixels alone, and a constant
    mask gets what chance gives. With a threshold, all pixels of at least that value are taken.

    Args:
        masks: (B, H, W) in [0, 1], without NaN.
        regions: (B, H, W) boolean.
        seeds: One seed per mask, for the order of ties.
        threshold: In [0, 1], or None.

    Returns:
        (B,) float64 in [0, 100]; NaN where nothing is taken and the region is empty.

    Example:
        >>> region = torch.tensor([[[True, True, False, False]]])
        >>> mask = torch.tensor([[[0.9, 0.1, 0.2, 0.0]]])
        >>> intersection_over_union(mask, region, [0])
        tensor([33.3333], dtype=torch.float64)
        >>> intersection_over_union(mask, region, [0], threshold=0.5)
        tensor([50.], dtype=torch.float64)
    """
    if threshold is None:
        sizes = regions.flatten(1).sum(dim=1)[:, None, None]
        taken = pixel_ranks(masks, seeds) >= masks[0].numel() - sizes
    else:
        taken = masks >= threshold
    both = (taken & regions).flatten(1).sum(dim=1).double()
    return 100 * both / (taken | regions).flatten(1).sum(dim=1)


@register(
    name="localisation",
    title="Pointing games",
    paper="Zhang et al., IJCV 2018; Wang et al. (Score-CAM), CVPR Workshops 2020",
    needs=("truth",),
    options={"tolerance": 0},
    metrics={
        "pointing": Metric("pointing game", higher_is_better=True, unit="%"),
        "energy_pointing": Metric("energy pointing game", higher_is_better=True, unit="%"),
    },
)
def localisation(case: Case, tolerance: int = 0) -> Scores:
    """Look for each mask's peak and mass in the boxes that people drew round the class.

    The case decides the class: the boxes' own where the classifier has it, else the predicted one.
    The mass is that of the mask in [0, 1] at the image's size, the one that is shown and scored.

    Args:
        case: Masks, and where the class is.
        tolerance: So many pixels of the input may the peak lie outside of the boxes. The paper has
            15, on photos of their own sizes; at 224 pixels that is much.

    Returns:
        ``pointing`` and ``energy_pointing`` in percent; NaN where an image has no box, or none that
        holds the centre of a pixel.

    Raises:
        InputError: The truth is not one entry per image, or the tolerance is below 0.
    """
    if tolerance < 0:
        raise InputError(f"expected a tolerance of at least 0 pixels, got {tolerance}")
    regions, marked = box_regions(case)
    near = widened(regions, tolerance)
    return Scores(
        {
            "pointing": pointing(case.masks, near).masked_fill(~marked, torch.nan),
            "energy_pointing": energy(case.masks, regions).masked_fill(~marked, torch.nan),
        }
    )


@register(
    name="segmentation",
    title="Overlap with the segmentation",
    paper="mass in mask: Arras et al., Information Fusion 2022; IoU at the region's area: ours",
    needs=("region",),
    options={"threshold": None},
    metrics={
        "mass_in_mask": Metric("mass in mask", higher_is_better=True, unit="%"),
        "iou": Metric("IoU", higher_is_better=True, unit="%"),
    },
)
def segmentation(case: Case, threshold: float | None = None) -> Scores:
    """Compare each mask with the segmentation mask of the class.

    Args:
        case: Masks, and where the class is.
        threshold: See :func:`intersection_over_union`; None takes as many pixels as the region has.

    Returns:
        ``mass_in_mask`` and ``iou`` in percent; NaN where an image has no segmentation mask.

    Raises:
        InputError: The truth is not one entry per image, or a segmentation mask has another size.
    """
    regions, marked = _regions(case, lambda truth: truth.region)
    overlap = intersection_over_union(case.masks, regions, case.seeds, threshold)
    return Scores(
        {
            "mass_in_mask": energy(case.masks, regions).masked_fill(~marked, torch.nan),
            "iou": overlap.masked_fill(~marked, torch.nan),
        }
    )


def box_regions(case: Case) -> tuple[Tensor, Tensor]:
    """Return the pixels in the boxes of each image (B, H, W), and which images have any (B,).

    Raises:
        InputError: The truth is not one entry per image.
    """

    def region(truth: Truth) -> Tensor | None:
        return box_region(truth.boxes.to(case.masks.device), case.size)

    return _regions(case, region)


def _regions(case: Case, region: Callable[[Truth], Tensor | None]) -> tuple[Tensor, Tensor]:
    """Regions (B, H, W) and which images have one (B,)."""
    if case.truth and len(case.truth) != len(case.masks):
        raise InputError(
            f"expected a truth for each of {len(case.masks)} images, got {len(case.truth)}"
        )
    regions = torch.zeros_like(case.masks, dtype=torch.bool)
    for index, truth in enumerate(case.truth):
        found = None if truth is None else region(truth)
        if found is not None and found.shape != regions.shape[1:]:
            raise InputError(
                f"expected a segmentation mask of the input's size {case.size}, got "
                f"{tuple(found.shape)}; resize and crop it as the photo"
            )
        if found is not None:
            regions[index] = found.to(regions.device, torch.bool)
    return regions, regions.flatten(1).any(dim=1)
