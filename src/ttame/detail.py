"""Fine detail: where a coarse mask hardly tells neighbouring pixels apart, the photo's edges do."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ttame.errors import InputError
from ttame.masking import minmax, normal_ranks

_AT_ONCE = 16


def edge_strength(pixels: Tensor) -> Tensor:
    """Return how steep a photo is at every pixel, by the Sobel filter on its grey values.

    ``sqrt((g * s)^2 + (g * s^T)^2)`` with g the mean over the channels, its border repeated, and s
    the kernel ``[1 2 1]^T [-1 0 1]``.

    Args:
        pixels: (B, C, H, W) in [0, 1].

    Returns:
        (B, 1, H, W), not negative.

    Example:
        >>> edge_strength(torch.tensor([[[[0.0, 0.0, 1.0, 1.0]]]]))
        tensor([[[[0., 4., 4., 0.]]]])
    """
    # By slices, not a convolution, which autocast and TF32 would compute in fewer digits.
    grey = F.pad(pixels.float().mean(dim=1, keepdim=True), (1, 1, 1, 1), mode="replicate")
    down = grey[..., 2:, :] - grey[..., :-2, :]
    across = grey[..., 2:] - grey[..., :-2]
    return torch.hypot(
        down[..., :-2] + 2 * down[..., 1:-1] + down[..., 2:],
        across[..., :-2, :] + 2 * across[..., 1:-1, :] + across[..., 2:, :],
    )


def mixed_with_edges(masks: Tensor, pixels: Tensor, detail: float) -> Tensor:
    """Return ``(1 - d) mask + d ranks(edges)``, with the ranks of :func:`normal_ranks`.

    A map of a few cells is a slope over the photo: a small ``d`` leaves the slope as it is and
    orders the pixels of one height. Differentiable by the masks.

    Args:
        masks: (B, n, H, W) in [0, 1].
        pixels: The photos, (B, C, H, W) in [0, 1].
        detail: d in [0, 1].

    Returns:
        (B, n, H, W) in [0, 1].

    Raises:
        InputError: ``detail`` is out of range, or masks and photos do not fit.
    """
    return torch.lerp(masks, _edge_ranks(masks, pixels, detail).to(masks.dtype), detail)


def with_detail(masks: Tensor, pixels: Tensor, detail: float) -> Tensor:
    """Mix masks with their photos' edges, each stretched to its own range again; 0 changes nothing.

    The share is one of the mask's range, whatever that is. A constant mask says nothing of the
    photo and stays constant.

    Args:
        masks: (B, n, H, W) in [0, 1].
        pixels: The photos, (B, C, H, W) in [0, 1].
        detail: See :func:`mixed_with_edges`.

    Returns:
        (B, n, H, W) in [0, 1]; no gradients.

    Raises:
        InputError: ``detail`` is out of range, or masks and photos do not fit.

    Example:
        >>> photo = torch.tensor([[[[0.0, 0.0, 1.0, 1.0]]]])
        >>> slope = torch.tensor([[[[0.0, 0.4, 0.6, 1.0]]]])
        >>> with_detail(slope, photo, 0.2)
        tensor([[[[0.0000, 0.5707, 0.7707, 1.0000]]]])
    """
    if detail == 0:
        return masks
    ranks = _edge_ranks(masks, pixels, detail)
    result = torch.empty_like(masks)
    # A few at a time: masks of a thousand classes are large enough without what is between.
    for start in range(0, masks.shape[1], _AT_ONCE):
        part = masks[:, start : start + _AT_ONCE].detach()
        low = part.amin(dim=(-2, -1), keepdim=True)
        span = part.amax(dim=(-2, -1), keepdim=True) - low
        unit = minmax(part)
        constant = unit.amax(dim=(-2, -1), keepdim=True) == 0
        mixed = low + span * minmax(torch.lerp(unit, ranks, detail))
        result[:, start : start + _AT_ONCE] = torch.where(constant, part, mixed)
    return result


def _edge_ranks(masks: Tensor, pixels: Tensor, detail: float) -> Tensor:
    """Return the ranks of the photos' edges, (B, 1, H, W) float32, after checking all three."""
    check_detail(detail)
    if len(masks) != len(pixels) or masks.shape[-2:] != pixels.shape[-2:]:
        raise InputError(
            f"expected masks (B, n, H, W) for photos {tuple(pixels.shape)} to mix edges into, got "
            f"{tuple(masks.shape)}"
        )
    return normal_ranks(edge_strength(pixels))


def check_detail(detail: float) -> None:
    """Refuse what is not in [0, 1].

    Raises:
        InputError: It is not.
    """
    if not 0 <= detail <= 1:
        raise InputError(f"expected detail from 0 (none) to 1 (edges alone), got {detail}")
