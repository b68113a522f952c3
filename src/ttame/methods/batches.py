"""How many masked images a classifier is given at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ttame.errors import InputError

if TYPE_CHECKING:
    import torch

# Activations of more images overflow a processor's caches: 8 images of 224 px through an
# EfficientNet-Lite0 take half as long, each, as 32 do.
_ON_CPU = 8
_ON_ACCELERATOR = 64


def images_at_once(device: torch.device, batch_size: int | None = None) -> int:
    """Return the batch size of masked passes: the given one, or one that suits the device.

    Raises:
        InputError: It is not positive.

    Example:
        >>> import torch
        >>> images_at_once(torch.device("cpu")), images_at_once(torch.device("cpu"), 3)
        (8, 3)
    """
    if batch_size is None:
        return _ON_CPU if device.type == "cpu" else _ON_ACCELERATOR
    if batch_size < 1:
        raise InputError(f"expected a positive batch_size or None, got {batch_size}")
    return batch_size
