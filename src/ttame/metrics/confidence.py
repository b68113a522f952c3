"""How the classifier's confidence moves when its image is masked, image by image.

``p`` is the probability of a class on the full image, ``o`` its probability on the masked image.
Every function returns one value per image, in percent; the metric of a data set is their mean.
A NaN that comes in comes out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from ttame.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor


def average_drop(p: Tensor, o: Tensor) -> Tensor:
    """Return by how much of itself the confidence dropped: ``100 * max(0, p - o) / p``.

    Lower is better. Chattopadhay et al., "Grad-CAM++", WACV 2018.

    Args:
        p: (B,) probabilities on the full images, in [0, 1].
        o: (B,) probabilities on the masked images, in [0, 1].

    Returns:
        (B,) percentages in [0, 100]; 0 where p = 0, since nothing can drop.

    Raises:
        InputError: The shapes differ.

    Example:
        >>> average_drop(torch.tensor([0.8, 0.5, 0.0]), torch.tensor([0.2, 0.9, 0.3]))
        tensor([75.,  0.,  0.])
    """
    _check(p, o)
    return 100 * _share((p - o).clamp(min=0), p)


def increase_in_confidence(p: Tensor, o: Tensor) -> Tensor:
    """Return 100 where the confidence rose strictly (``o > p``), 0 elsewhere.

    Higher is better. Chattopadhay et al., "Grad-CAM++", WACV 2018.

    Args:
        p: (B,) probabilities on the full images, in [0, 1].
        o: (B,) probabilities on the masked images, in [0, 1].

    Returns:
        (B,) percentages, each 0 or 100.

    Raises:
        InputError: The shapes differ.

    Example:
        >>> increase_in_confidence(torch.tensor([0.8, 0.5, 0.5]), torch.tensor([0.2, 0.9, 0.5]))
        tensor([  0., 100.,   0.])
    """
    _check(p, o)
    rose = 100 * (o > p).to(p.dtype)
    return torch.where(torch.isnan(p) | torch.isnan(o), torch.full_like(p, torch.nan), rose)


def average_gain(p: Tensor, o: Tensor) -> Tensor:
    """Return how much of the missing confidence was gained: ``100 * max(0, o - p) / (1 - p)``.

    Higher is better. Zhang et al., "Opti-CAM", CVIU 2024 (arXiv 2301.07002).

    Args:
        p: (B,) probabilities on the full images, in [0, 1].
        o: (B,) probabilities on the masked images, in [0, 1].

    Returns:
        (B,) percentages in [0, 100]; 0 where p = 1, since nothing can be gained.

    Raises:
        InputError: The shapes differ.

    Example:
        >>> average_gain(torch.tensor([0.5, 0.8, 1.0]), torch.tensor([0.75, 0.2, 1.0]))
        tensor([50.,  0.,  0.])
    """
    _check(p, o)
    return 100 * _share((o - p).clamp(min=0), 1 - p)


def _share(part: Tensor, whole: Tensor) -> Tensor:
    none = whole == 0
    return torch.where(none, part * 0, part / whole.masked_fill(none, 1))


def _check(p: Tensor, o: Tensor) -> None:
    if p.shape != o.shape:
        raise InputError(
            "expected one probability per image before and after masking, "
            f"got shapes {tuple(p.shape)} and {tuple(o.shape)}"
        )
