"""Measuring what a library's own image processor does, as our preprocessing."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ttame.errors import BackboneError
from ttame.images.preprocessing import Preprocessing

Processor = Callable[[Image.Image], Tensor]

_INTERPOLATIONS = ("bilinear", "bicubic", "nearest", "lanczos")
# Mean difference of two inputs, on the [0, 1] scale of pixels, that is tolerated.
_TOLERANCE = 0.02
# Width and height of the photos that are shown to the processor: of different shapes, so that
# fitting a photo inside a frame does not look like resizing its short side.
_LANDSCAPE, _PORTRAIT, _SQUARE = (640, 480), (400, 640), (480, 480)
# Darkest level of the ramps: what is darker is padding.
_FLOOR = 64


def measured_preprocessing(process: Processor) -> Preprocessing:
    """Find the preprocessing that does what an image processor does.

    The processor is shown black and pure colours (they give mean, standard deviation and the order
    of the channels), ramps (their slopes give the size of the resized photo) and a picture with
    detail (it gives the interpolation, and shows whether the result is right). So neither the names
    of its settings nor their many meanings matter.

    Args:
        process: Turns a photo of mode RGB into the classifier's input (3, H, W).

    Returns:
        The preprocessing. Its crop may start one pixel further, for margins that are odd. Where the
        processor keeps the aspect ratio and crops nothing, it takes the centre square.

    Raises:
        BackboneError: The processor does something else than resize, crop and normalise.

    Example:
        >>> known = Preprocessing(crop=(32, 32), resize=40, interpolation="bicubic")
        >>> found = measured_preprocessing(lambda photo: known.normalise(known.pixels(photo)))
        >>> found == known
        True
    """
    mean, std, reverse = _colours(process)
    plain = Preprocessing(mean=mean, std=std, reverse=reverse)

    def pixels(photo: Image.Image) -> Tensor:
        return plain.denormalise(_picture(process, photo))

    square = pixels(_ramps(_SQUARE))
    crop = (square.shape[1], square.shape[2])
    resize = _resize(
        [_resized_size(pixels(_ramps(size)), size) for size in (_LANDSCAPE, _PORTRAIT)]
    )
    photos = [_detailed(size) for size in (_LANDSCAPE, _PORTRAIT)]
    theirs = [pixels(photo) for photo in photos]
    found: dict[str, Preprocessing] = {}
    errors: dict[str, float] = {}
    for name in _INTERPOLATIONS:
        found[name] = Preprocessing(
            crop, None if resize == crop else resize, mean, std, name, reverse
        )
        errors[name] = max(
            _difference(found[name].pixels(photo), other)
            for photo, other in zip(photos, theirs, strict=True)
        )
    best = min(errors, key=errors.__getitem__)
    if errors[best] > _TOLERANCE:
        raise _inexpressible(f"what comes nearest, {found[best]}, differs by {errors[best]:.3f}")
    return found[best]


def _inexpressible(why: str) -> BackboneError:
    return BackboneError(
        f"the classifier's image processor does not just resize, crop and normalise: {why}; say "
        "how photos are to be prepared with load_backbone(..., preprocessing=Preprocessing(...))"
    )


def _picture(process: Processor, photo: Image.Image) -> Tensor:
    try:
        output = process(photo)
    except Exception as error:  # foreign code may raise anything
        raise _inexpressible(f"it fails on an RGB photo ({error!r})") from error
    if output.ndim != 3 or output.shape[0] != 3:
        raise _inexpressible(f"it gives a tensor of shape {tuple(output.shape)} for an RGB photo")
    return output


def _colours(process: Processor) -> tuple[tuple[float, ...], tuple[float, ...], bool]:
    """Mean and standard deviation in the order of the photo's channels, and whether it turns."""

    def seen(colour: tuple[int, int, int]) -> Tensor:
        output = _picture(process, Image.new("RGB", _SQUARE, colour)).double()
        return output[:, output.shape[1] // 2, output.shape[2] // 2]

    black = seen((0, 0, 0))
    # Column c is what the photo's channel c adds.
    gains = torch.stack(
        [seen((255, 0, 0)) - black, seen((0, 255, 0)) - black, seen((0, 0, 255)) - black], dim=1
    )
    reverse = bool(gains[2, 0].abs() > gains[0, 0].abs())
    if reverse:
        gains, black = gains.flip(0), black.flip(0)
    scale = gains.diagonal()
    if not torch.allclose(gains, scale.diag(), atol=1e-4 * float(gains.abs().max())):
        raise _inexpressible("it mixes the colours")
    if float(scale.min()) <= 0:
        raise _inexpressible("it turns light into dark")
    # Six digits are what float32 gives back of the numbers that somebody wrote down; 0 has no sign.
    mean, std = (
        tuple(float(f"{value:.6g}") + 0.0 for value in values.tolist())
        for values in (-black / scale, 1 / scale)
    )
    return mean, std, reverse


def _ramps(size: tuple[int, int]) -> Image.Image:
    """Red rises from left to right, green from top to bottom, blue is full."""
    width, height = size
    across = np.broadcast_to((np.arange(width) + 0.5) / width, (height, width))
    down = np.broadcast_to((np.arange(height)[:, None] + 0.5) / height, (height, width))
    levels = _FLOOR + np.stack([across, down], axis=2) * (255 - _FLOOR)
    # Noise before rounding makes means over many pixels exact.
    levels = np.floor(levels + np.random.default_rng(0).random(levels.shape)).clip(0, 255)
    blue = np.full((height, width, 1), 255)
    return Image.fromarray(np.concatenate([levels, blue], axis=2).astype(np.uint8))


def _resized_size(seen: Tensor, size: tuple[int, int]) -> tuple[int, int]:
    """Height and width, before the crop, of ramps that were seen as (3, H, W) pixels."""
    photo = seen[2] > 0.9  # full blue; padding is dark
    rows, columns = (photo.float().mean(dim=dim) for dim in (1, 0))
    rows, columns = rows > rows.max() / 2, columns > columns.max() / 2
    sides = []
    for channel, kept, other in ((1, rows, columns), (0, columns, rows)):
        ramp = seen[channel] if channel else seen[channel].T
        values = ramp[kept][:, other].double().mean(dim=1)
        # Interpolation bends both ends.
        margin = min(4, len(values) // 4)
        values = values[margin : len(values) - margin]
        place = torch.arange(len(values), dtype=torch.float64)
        place = place - place.mean()
        slope = float((place * values).sum() / (place * place).sum().clamp(min=1e-9))
        if slope <= 1e-6:
            raise _inexpressible(f"it shows no photo of {size[0]} x {size[1]} pixels upright")
        sides.append(round((255 - _FLOOR) / 255 / slope))
    return sides[0], sides[1]


def _resize(sizes: list[tuple[int, int]]) -> int | tuple[int, int]:
    """Short side where a landscape and a portrait keep their aspect ratios, else the one size."""
    landscape, portrait = sizes
    if landscape == portrait:
        return landscape
    if abs(min(landscape) - min(portrait)) <= 1 and landscape[0] < landscape[1]:
        return min(landscape)
    raise _inexpressible(
        f"it resizes {_LANDSCAPE[0]} x {_LANDSCAPE[1]} pixels to {landscape[1]} x {landscape[0]}, "
        f"and {_PORTRAIT[0]} x {_PORTRAIT[1]} to {portrait[1]} x {portrait[0]}"
    )


def _detailed(size: tuple[int, int]) -> Image.Image:
    """A seeded picture with coarse and fine detail."""
    generator = np.random.default_rng(0)
    picture = np.zeros((size[1], size[0], 3))
    for cells, share in ((8, 0.7), (40, 0.3)):
        small = generator.integers(0, 256, (cells, cells, 3), dtype=np.uint8)
        picture += share * np.asarray(Image.fromarray(small).resize(size, Image.Resampling.BICUBIC))
    return Image.fromarray(picture.round().astype(np.uint8))


def _difference(ours: Tensor, theirs: Tensor) -> float:
    """Mean absolute difference of (3, H, W) pixels, of the centre where theirs are more.

    Half an odd margin is rounded up or down by different libraries: the nearest of the crops that
    start at most one pixel apart counts.
    """
    height, width = ours.shape[1:]
    top, left = (theirs.shape[1] - height) // 2, (theirs.shape[2] - width) // 2
    if min(top, left) < 0:
        return float("inf")
    inside = ours[:, 1:-1, 1:-1]
    return min(
        float((inside - theirs[:, y : y + height - 2, x : x + width - 2]).abs().mean())
        for y in (top, top + 1, top + 2)
        for x in (left, left + 1, left + 2)
    )
