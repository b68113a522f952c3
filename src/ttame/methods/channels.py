"""Channels of a feature map: which to look at, and the map without one of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from ttame.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor


def strongest_channels(feature: Tensor, count: int | None) -> Tensor:
    """Choose the channels with the largest mean activation.

    Args:
        feature: (C, h, w).
        count: How many; None or more than there are: all.

    Returns:
        Their indices in ascending order.

    Raises:
        InputError: The count is not positive.

    Example:
        >>> strongest_channels(torch.tensor([[[1.0]], [[5.0]], [[3.0]]]), 2)
        tensor([1, 2])
    """
    if count is not None and count < 1:
        raise InputError(f"expected a positive number of channels or None for all, got {count}")
    if count is None or count >= len(feature):
        return torch.arange(len(feature), device=feature.device)
    strongest = feature.mean(dim=(1, 2)).argsort(descending=True, stable=True)[:count]
    return strongest.sort().values
