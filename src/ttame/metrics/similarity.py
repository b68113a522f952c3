"""How similar two maps of one image are: correlation over the pixels, by value or by rank."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from ttame.errors import InputError, unknown_name

if TYPE_CHECKING:
    from torch import Tensor

CORRELATIONS = ("pearson", "spearman")

# Masks in [0, 1] that vary less than this are constant; their deviations are rounding noise.
_CONSTANT = 1e-6
# Values closer than this share their ranks in part: rounding noise, which varies with the batch,
# must not order the pixels of a plateau.
_WIDTH = 1e-3


def pearson(first: Tensor, second: Tensor) -> Tensor:
    """Return the Pearson correlation of each pair of masks.

    ``sum (a - mean a)(b - mean b) / sqrt(sum (a - mean a)^2 sum (b - mean b)^2)`` over the pixels.
    It is a continuous function of the masks, so rounding noise cannot move it.

    Args:
        first: (B, H, W), without NaN.
        second: The same shape.

    Returns:
        (B,) float64 in [-1, 1]; 0 where a mask is constant and the correlation undefined.

    Raises:
        InputError: The shapes differ.

    Example:
        >>> mask = torch.tensor([[[0.0, 0.5], [0.2, 1.0]]])
        >>> pearson(mask, 1 - mask)
        tensor([-1.0000], dtype=torch.float64)
    """
    a, b = _centred(first, second)
    scale = a.square().mean(dim=1).sqrt() * b.square().mean(dim=1).sqrt()
    flat = is_constant(first) | is_constant(second)
    correlation = (a * b).mean(dim=1) / scale.masked_fill(flat, 1)
    return correlation.masked_fill(flat, 0).clamp(-1, 1)


def spearman(first: Tensor, second: Tensor) -> Tensor:
    """Return the Spearman rank correlation of each pair of masks.

    The Pearson correlation of the pixels' ranks. Equal values share their mean rank. The ranks are
    continuous: of two values less than 0.001 apart the higher counts for only a part above the
    lower, so rounding noise cannot move the result. A monotone change of a mask moves it only by
    what that presses together.

    Args:
        first: (B, H, W) on the scale of [0, 1], without NaN.
        second: The same shape.

    Returns:
        (B,) float64 in [-1, 1]; 0 where a mask is constant.

    Raises:
        InputError: The shapes differ.

    Example:
        >>> mask = torch.tensor([[[0.0, 0.5], [0.2, 1.0]]])
        >>> spearman(mask, mask**3)
        tensor([1.0000], dtype=torch.float64)
    """
    _check(first, second)
    return pearson(mean_ranks(first), mean_ranks(second))


def map_similarity(first: Tensor, second: Tensor, correlation: str = "pearson") -> Tensor:
    """Return how similar two masks of each image are, in percent.

    Two constant masks are the same explanation, 100: else a map that never changes would look as if
    it followed every change. A constant mask and one that is not have nothing in common, 0.

    Args:
        first: (B, H, W) in [0, 1], without NaN.
        second: The same shape.
        correlation: ``"pearson"`` or ``"spearman"``.

    Returns:
        (B,) float64 in [-100, 100].

    Raises:
        InputError: The shapes differ.
        UnknownNameError: The correlation is unknown.

    Example:
        >>> ones = torch.ones(1, 2, 2)
        >>> map_similarity(ones, ones), map_similarity(ones, torch.eye(2)[None])
        (tensor([100.], dtype=torch.float64), tensor([0.], dtype=torch.float64))
    """
    if correlation not in CORRELATIONS:
        raise unknown_name("correlation", correlation, CORRELATIONS)
    values = (pearson if correlation == "pearson" else spearman)(first, second)
    return 100 * values.masked_fill(is_constant(first) & is_constant(second), 1)


def is_constant(masks: Tensor) -> Tensor:
    """Say which masks (B, H, W) vary by no more than rounding noise; (B,) boolean.

    Example:
        >>> is_constant(torch.tensor([[[0.3, 0.3]], [[0.3, 0.4]]]))
        tensor([ True, False])
    """
    flat = masks.flatten(1)
    return flat.amax(dim=1) - flat.amin(dim=1) <= _CONSTANT


def _centred(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    _check(first, second)
    a, b = first.flatten(1).double(), second.flatten(1).double()
    return a - a.mean(dim=1, keepdim=True), b - b.mean(dim=1, keepdim=True)


def mean_ranks(masks: Tensor) -> Tensor:
    """Ranks from 1, where equal values share the mean of their places; (B, H, W) float64.

    ``rank(v) = 1/2 + sum_j clip((v - v_j) / 2w + 1/2, 0, 1)``, a difference of the sums
    ``G(u) = sum_j max(0, u - v_j)`` at ``u = v + w`` and ``v - w``.
    """
    values = masks.double().flatten(1)
    ordered = values.sort(dim=1).values
    sums = torch.nn.functional.pad(ordered.cumsum(dim=1), (1, 0))

    def excess(levels: Tensor) -> Tensor:
        below = torch.searchsorted(ordered, levels)
        return below * levels - sums.gather(1, below)

    ranks = 0.5 + (excess(values + _WIDTH) - excess(values - _WIDTH)) / (2 * _WIDTH)
    return ranks.view(masks.shape)


def _check(first: Tensor, second: Tensor) -> None:
    if first.shape != second.shape or first.ndim != 3:
        raise InputError(
            "expected two masks per image of the same shape (B, H, W), got "
            f"{tuple(first.shape)} and {tuple(second.shape)}"
        )
