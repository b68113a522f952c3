"""From maps to masks, and from masks to masked images."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

from ttame.errors import unknown_name

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from ttame.images.preprocessing import Preprocessing

_TINY = 1e-6
# A smaller span would have an endless gradient.
_LEAST = 1e-18
_QUANTILE_GRID = 56


def minmax(maps: Tensor) -> Tensor:
    """Stretch every map (..., H, W) to [0, 1]; a constant map becomes all zeros.

    Example:
        >>> minmax(torch.tensor([[2.0, 4.0], [3.0, 2.0]]))
        tensor([[0.0000, 1.0000],
                [0.5000, 0.0000]])
    """
    maps = maps.float()
    low, high = maps.amin(dim=(-2, -1), keepdim=True), maps.amax(dim=(-2, -1), keepdim=True)
    span = high - low
    # Spans below the rounding noise of the values are constant maps, not explanations.
    constant = span <= (_TINY * torch.maximum(low.abs(), high.abs())).clamp(min=_LEAST)
    return torch.where(
        constant, torch.zeros_like(maps), (maps - low) / span.masked_fill(constant, 1)
    )


def normal_ranks(maps: Tensor) -> Tensor:
    """Replace every value by its rank in the map, as if the values were normally distributed.

    ``mask = Phi((map - mean) / std)`` with Phi the normal distribution function: a smooth,
    differentiable form of ranks uniform in [0, 1]. The mean mask area is near one half for *every*
    map, so a training on it has no area to trade and cannot collapse to "keep everything".

    Args:
        maps: (..., H, W), any range.

    Returns:
        Masks of the same shape in (0, 1); a constant map becomes all 0.5.
    """
    maps = maps.float()
    # The mask does not depend on the offset, but a large one would leave rounding noise, which
    # the division by the deviation blows up where the map is constant.
    maps = maps - maps.detach().amin(dim=(-2, -1), keepdim=True)
    centred = maps - maps.mean(dim=(-2, -1), keepdim=True)
    variance = centred.square().mean(dim=(-2, -1), keepdim=True)
    return 0.5 * (1 + torch.erf(centred * torch.rsqrt(2 * variance + _TINY**2)))


def sigmoid(maps: Tensor) -> Tensor:
    """Squash every value on its own to (0, 1), as the paper does in training."""
    return torch.sigmoid(maps.float())


MASK_FORMS: dict[str, Callable[[Tensor], Tensor]] = {
    "minmax": minmax,
    "ranks": normal_ranks,
    "sigmoid": sigmoid,
}


def to_masks(maps: Tensor, form: str = "minmax") -> Tensor:
    """Turn maps (..., H, W) into masks in [0, 1] by the form's name.

    Raises:
        UnknownNameError: ``form`` is not one of ``MASK_FORMS``.
    """
    if form not in MASK_FORMS:
        raise unknown_name("mask form", form, MASK_FORMS)
    return MASK_FORMS[form](maps)


def smooth(maps: Tensor, cells: float) -> Tensor:
    """Blur maps (B, n, H, W) by a Gaussian; the border cells are repeated outwards.

    A coarse cell of a CNN looks far beyond itself, so neighbours that differ much are more often
    noise than edges of an object.

    Args:
        maps: Any range.
        cells: Standard deviation in cells of the map; 0 changes nothing.

    Example:
        >>> peak = torch.tensor([[[[0.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 0.0]]]])
        >>> smooth(peak, 0.5)[0, 0, 1]
        tensor([0.0837, 0.6187, 0.0837])
    """
    return gaussian_blur(maps, cells) if cells > 0 else maps


def shown_masks(maps: Tensor, form: str = "minmax", smoothing: float = 0.0) -> Tensor:
    """Turn maps (B, n, H, W) into the masks that are shown and evaluated, each from 0 to 1.

    The paper's sigmoid serves the training only: what is shown is the map before it, min-max
    normalised (a saturated sigmoid would flatten the map).

    Args:
        maps: Any range.
        form: One of ``MASK_FORMS``.
        smoothing: See :func:`smooth`.

    Raises:
        UnknownNameError: ``form`` is not one of ``MASK_FORMS``.
    """
    form = "minmax" if form == "sigmoid" else form
    return minmax(to_masks(smooth(maps, smoothing), form))


def resize(maps: Tensor, size: tuple[int, int], antialias: bool = False) -> Tensor:
    """Resize maps (B, n, h, w) bilinearly (align_corners=False) to ``size`` = (H, W).

    With ``antialias``, shrinking averages over all cells that a new one covers.
    """
    if maps.shape[-2:] == tuple(size):
        return maps
    return F.interpolate(
        maps, size=tuple(size), mode="bilinear", align_corners=False, antialias=antialias
    )


def repeat_cells(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Bring maps (B, n, h, w) to ``size`` = (H, W), each cell a rectangle of one value.

    A vision transformer reads whole patches: a mask that changes inside a patch shows it something
    that is neither the patch nor its absence.

    Example:
        >>> repeat_cells(torch.tensor([[[[1.0, 2.0]]]]), (2, 4))[0, 0]
        tensor([[1., 1., 2., 2.],
                [1., 1., 2., 2.]])
    """
    return F.interpolate(maps, size=tuple(size), mode="nearest-exact")


UPSAMPLINGS: dict[str, Callable[[Tensor, tuple[int, int]], Tensor]] = {
    "bilinear": resize,
    "nearest": repeat_cells,
}


def check_upsampling(name: str) -> None:
    """Refuse what is not one of ``UPSAMPLINGS``.

    Raises:
        UnknownNameError: It is not.
    """
    if name not in UPSAMPLINGS:
        raise unknown_name("upsampling", name, UPSAMPLINGS)


def upsample(maps: Tensor, size: tuple[int, int], upsampling: str = "bilinear") -> Tensor:
    """Bring maps (B, n, h, w) to ``size`` = (H, W) by the name of the upsampling.

    Raises:
        UnknownNameError: ``upsampling`` is not one of ``UPSAMPLINGS``.
    """
    check_upsampling(upsampling)
    return UPSAMPLINGS[upsampling](maps, size)


def keep_share(masks: Tensor, share: Tensor, softness: float) -> Tensor:
    """Fade out all but the top ``share`` of each mask's pixels; differentiable.

    Args:
        masks: (B, n, H, W) in [0, 1].
        share: (B,) shares in (0, 1]; 1 keeps the mask as it is.
        softness: Width of the fade, on the scale of the mask.

    Returns:
        (B, n, H, W): masks times a sigmoid step at each mask's own (1 - share) quantile.
    """
    # Every so many-th pixel tells the quantile of a mask; sorting all would cost a tenth
    # of a training step.
    stride = max(1, min(masks.shape[-2:]) // _QUANTILE_GRID)
    flat = masks.detach()[..., ::stride, ::stride].flatten(2)
    rank = ((1 - share) * (flat.shape[-1] - 1)).round().long().view(-1, 1, 1)
    threshold = flat.sort(dim=-1).values.gather(-1, rank.expand(-1, flat.shape[1], 1))
    step = torch.sigmoid((masks - threshold.unsqueeze(-1)) / softness)
    return torch.where((share < 1).view(-1, 1, 1, 1), masks * step, masks)


def apply_mask(images: Tensor, masks: Tensor, fill: Tensor | float) -> Tensor:
    """Blend ``images`` (B, C, H, W) with ``fill`` where ``masks`` (B, 1, H, W) are low.

    ``images * mask + fill * (1 - mask)``; the fill is a tensor that broadcasts to the images, on
    their scale.

    Example:
        >>> apply_mask(torch.ones(1, 3, 2, 2), torch.full((1, 1, 2, 2), 0.25), 0.0).unique()
        tensor([0.2500])
    """
    if isinstance(fill, float) and fill == 0:
        return images * masks
    return images * masks + fill * (1 - masks)


def _black(images: Tensor, preprocessing: Preprocessing) -> Tensor:
    return preprocessing.normalise(torch.zeros_like(preprocessing.statistics(images)[0]))


def _mean_colour(images: Tensor, preprocessing: Preprocessing) -> Tensor:
    return torch.zeros_like(preprocessing.statistics(images)[0])


def _blur(images: Tensor, preprocessing: Preprocessing) -> Tensor:  # noqa: ARG001
    # A wide Gaussian, as wide for every input size as sigma 14 is at 224 px.
    return gaussian_blur(images, min(images.shape[-2:]) / 16, reach=2)


def gaussian_blur(images: Tensor, sigma: float, reach: float = 3) -> Tensor:
    """Blur (B, C, H, W) by a Gaussian cut at ``reach`` sigmas; borders are repeated outwards."""
    radius = math.ceil(reach * sigma)
    steps = torch.arange(-radius, radius + 1, device=images.device, dtype=images.dtype)
    kernel = torch.softmax(-(steps**2) / (2 * sigma**2), dim=0).expand(images.shape[1], 1, 1, -1)
    for transposed in (False, True):
        weight = kernel.transpose(2, 3) if transposed else kernel
        pad = (0, 0, radius, radius) if transposed else (radius, radius, 0, 0)
        padded = F.pad(images, pad, mode="replicate")
        images = F.conv2d(padded, weight, groups=images.shape[1])
    return images


FILLS: dict[str, Callable[[Tensor, Preprocessing], Tensor]] = {
    "black": _black,
    "mean": _mean_colour,
    "blur": _blur,
}


def make_fill(name: str, images: Tensor, preprocessing: Preprocessing) -> Tensor:
    """Return what replaces masked pixels, on the classifier's input scale.

    ``black`` is the paper's pixel mask space (the mask multiplies the [0, 1] image), ``mean`` its
    normalised mask space (the mask multiplies the normalised image), ``blur`` the blurred image.

    Args:
        name: One of ``FILLS``.
        images: The classifier's normalised input, (B, C, H, W).
        preprocessing: Mean and standard deviation of the input.

    Raises:
        UnknownNameError: ``name`` is not one of ``FILLS``.
    """
    if name not in FILLS:
        raise unknown_name("fill", name, FILLS)
    return FILLS[name](images, preprocessing)
