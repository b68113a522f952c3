"""Two photos in one picture: what a map must tell apart."""

from __future__ import annotations

import torch
from torch import Tensor


def beside(first: Tensor, second: Tensor, dim: int) -> Tensor:
    """Put the middle half of an image before the middle half of another one.

    What a photo shows is mostly in its middle, and nothing is squeezed.

    Args:
        first: (..., H, W); of it comes the left (or upper) half of the picture.
        second: The same shape.
        dim: -1 puts them side by side, -2 one above the other.

    Returns:
        (..., H, W).

    Example:
        >>> beside(torch.tensor([[1, 2, 3, 4]]), torch.tensor([[5, 6, 7, 8]]), -1)
        tensor([[2, 3, 6, 7]])
    """
    side = first.shape[dim]
    half, start = side // 2, side // 4
    parts = (first.narrow(dim, start, half), second.narrow(dim, start, side - half))
    return torch.cat(parts, dim=dim)
