"""From a method's maps to masks of the image: normalised, resized, never NaN."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from ttame.detail import with_detail
from ttame.errors import InputError, unknown_name
from ttame.masking import minmax, upsample

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

_CLIPPED = 0.01
# A range that is a smaller part of the whole one is rounding noise of an even ground.
_EVEN = 1e-6


def without_nan(maps: Tensor) -> tuple[Tensor, Tensor]:
    """Replace every map that holds a NaN or an infinity by zeros, and say which ones did.

    So is one whose values lie further apart than float32 reaches: it has no place in [0, 1].

    Args:
        maps: (..., H, W), any range.

    Returns:
        The maps, and a boolean tensor (...) that is true for each replaced map.

    Example:
        >>> maps, replaced = without_nan(torch.tensor([[[1.0, 2.0]], [[3.0, torch.nan]]]))
        >>> maps.tolist(), replaced.tolist()
        ([[[1.0, 2.0]], [[0.0, 0.0]]], [False, True])
    """
    values = maps.float()
    replaced = ~torch.isfinite(values.amax(dim=(-2, -1)) - values.amin(dim=(-2, -1)))
    return maps.masked_fill(replaced[..., None, None], 0), replaced


def positive(maps: Tensor) -> Tensor:
    """Divide every map (B, h, w) by its maximum, negative values being 0: no evidence, no mask.

    A map without any positive value becomes all zeros, a positive constant one all ones.

    Example:
        >>> positive(torch.tensor([[[-1.0, 4.0], [2.0, 0.0]]]))
        tensor([[[0.0000, 1.0000],
                 [0.5000, 0.0000]]])
    """
    maps = maps.float().clamp(min=0)
    highest = maps.amax(dim=(-2, -1), keepdim=True)
    return maps / highest.masked_fill(highest == 0, 1)


def magnitude(maps: Tensor) -> Tensor:
    """Divide the absolute values of every map (B, h, w) by the largest: what is against counts too.

    Example:
        >>> magnitude(torch.tensor([[[-4.0, 1.0], [2.0, 0.0]]]))
        tensor([[[1.0000, 0.2500],
                 [0.5000, 0.0000]]])
    """
    return positive(maps.float().abs())


def clipped(maps: Tensor) -> Tensor:
    """Stretch every map (B, h, w) from its 1 % to its 99 % quantile to [0, 1], the rest clamped.

    A few extreme pixels, common in maps of gradients, then do not press all others to one value.
    A map that is the same nearly everywhere has no such range and is stretched as a whole.
    """
    maps = maps.float()
    ordered = maps.flatten(1).sort(dim=1).values
    low, high = (quantile(ordered, level)[:, None, None] for level in (_CLIPPED, 1 - _CLIPPED))
    span = (ordered[:, -1] - ordered[:, 0])[:, None, None]
    return minmax(torch.where(high - low > _EVEN * span, maps.clamp(low, high), maps))


def ranks(maps: Tensor) -> Tensor:
    """Replace every map (B, h, w) by the ranks of its values, stretched to [0, 1], ties averaged.

    No strictly increasing change of a map can move its mask then, nor any score of it: resizing
    comes later.
    A constant map becomes all zeros.

    Example:
        >>> ranks(torch.tensor([[[0.0, 5.0], [5.0, 6.0]]]))
        tensor([[[0.0000, 0.5000],
                 [0.5000, 1.0000]]])
    """
    values = maps.float().flatten(1)
    ordered = values.sort(dim=1).values
    first = torch.searchsorted(ordered, values)
    past = torch.searchsorted(ordered, values, right=True)
    return minmax((first + past).float().view(maps.shape))


def as_given(maps: Tensor) -> Tensor:
    """Clamp maps (B, h, w) that are masks already to [0, 1]."""
    return maps.float().clamp(0, 1)


def quantile(ordered: Tensor, level: float) -> Tensor:
    """Return the quantile of each row of sorted values (B, N), interpolated linearly: (B,).

    Equal to ``torch.quantile``, without its limit of 16 M values and with one sort for all levels.

    Example:
        >>> quantile(torch.tensor([[0.0, 1.0, 4.0]]), 0.75)
        tensor([2.5000])
    """
    position = level * (ordered.shape[1] - 1)
    low = int(position)
    high = min(low + 1, ordered.shape[1] - 1)
    return torch.lerp(ordered[:, low], ordered[:, high], position - low)


MINMAX = "minmax"

AS_GIVEN = "as_given"
"""For methods that give masks."""

NORMALISATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    MINMAX: minmax,
    "positive": positive,
    "magnitude": magnitude,
    "clipped": clipped,
    "ranks": ranks,
    AS_GIVEN: as_given,
}


def check_normalisation(name: str) -> None:
    """Refuse what is not one of ``NORMALISATIONS``.

    Raises:
        UnknownNameError: It is not.
    """
    if name not in NORMALISATIONS:
        raise unknown_name("normalisation", name, NORMALISATIONS)


def full_masks(
    maps: Tensor,
    size: tuple[int, int],
    normalisation: str = MINMAX,
    upsampling: str = "bilinear",
    detail: float = 0.0,
    pixels: Tensor | None = None,
) -> Tensor:
    """Turn maps into masks in [0, 1] at the size of the image.

    Args:
        maps: (B, h, w), any range, without NaN.
        size: Height and width of the image, in pixels.
        normalisation: One of ``NORMALISATIONS``, at the maps' own resolution. ``"minmax"`` is the
            paper's (a constant map becomes zeros).
        upsampling: One of ``ttame.masking.UPSAMPLINGS``.
        detail: How much of the photos' edges is mixed in, see :func:`ttame.detail.with_detail`.
        pixels: The photos, (B, C, H, W) in [0, 1]; needed for that only.

    Returns:
        (B, H, W) in [0, 1].

    Raises:
        UnknownNameError: There is no such normalisation or upsampling.
        InputError: ``detail`` is out of range or given without photos.

    Example:
        >>> full_masks(torch.tensor([[[-2.0, 2.0]]]), (1, 4), upsampling="nearest")
        tensor([[[0., 0., 1., 1.]]])
        >>> full_masks(torch.tensor([[[-2.0, 2.0]]]), (1, 2), "magnitude")
        tensor([[[1., 1.]]])
    """
    check_normalisation(normalisation)
    masks = NORMALISATIONS[normalisation](maps)
    # In float64, so that plateaus of the map stay exact ties: in float32 their pixels would differ
    # by rounding noise, and that noise, which varies with the batch, would rank them.
    full = upsample(masks[:, None].double(), size, upsampling).clamp(0, 1).float()
    if detail == 0:
        return full[:, 0]
    if pixels is None:
        raise InputError(f"detail={detail} needs the photos; give pixels")
    return with_detail(full, pixels, detail)[:, 0]
