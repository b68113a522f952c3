"""Fine detail: where a coarse mask hardly tells neighbouring pixels apart, the photo's edges do."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ttame.errors import InputError
from ttame.masking import minmax, normal_ranks


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
    grey = pixels.mean(dim=1, keepdim=True)
    across = torch.outer(grey.new_tensor([1, 2, 1]), grey.new_tensor([-1, 0, 1]))
    kernels = torch.stack([across, across.T])[:, None]
    edges = F.conv2d(F.pad(grey, (1, 1, 1, 1), mode="replicate"), kernels)
    strength: Tensor = torch.linalg.vector_norm(edges, dim=1, keepdim=True)
    return strength


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
        InputError: ``detail`` is out of range, or masks and photos differ in size.
    """
    check_detail(detail)
    if masks.shape[-2:] != pixels.shape[-2:]:
        raise InputError(
            f"expected masks of the photos' size {tuple(pixels.shape[-2:])} to add detail to, got "
            f"{tuple(masks.shape[-2:])}"
        )
    return torch.lerp(masks, normal_ranks(edge_strength(pixels)).to(masks.dtype), detail)


def with_detail(masks: Tensor, pixels: Tensor, detail: float) -> Tensor:
    """Mix masks with their photos' edges and stretch each to [0, 1] again; 0 changes nothing.

    A constant mask says nothing of the photo and stays constant.

    Args:
        masks: (B, n, H, W) in [0, 1].
        pixels: The photos, (B, C, H, W) in [0, 1].
        detail: See :func:`mixed_with_edges`.

    Example:
        >>> photo = torch.tensor([[[[0.0, 0.0, 1.0, 1.0]]]])
        >>> slope = torch.tensor([[[[0.0, 0.4, 0.6, 1.0]]]])
        >>> with_detail(slope, photo, 0.2)
        tensor([[[[0.0000, 0.5707, 0.7707, 1.0000]]]])
    """
    if detail == 0:
        return masks
    mixed = minmax(mixed_with_edges(masks, pixels, detail)).to(masks.dtype)
    constant = masks.amax(dim=(-2, -1), keepdim=True) == masks.amin(dim=(-2, -1), keepdim=True)
    return torch.where(constant, masks, mixed)


def check_detail(detail: float) -> None:
    """Refuse what is not in [0, 1].

    Raises:
        InputError: It is not.
    """
    if not 0 <= detail <= 1:
        raise InputError(f"expected detail from 0 (none) to 1 (edges alone), got {detail}")
