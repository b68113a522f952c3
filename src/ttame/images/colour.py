"""From any picture or array to 8-bit RGB, without guessing at ranges."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageOps

from ttame.errors import ImageError, InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

_TOLERANCE = 1e-3  # rounding of earlier arithmetic may leave [0, 1] by this much
_FULL_RANGE = 65535
_CHANNELS = (1, 3, 4)


def to_rgb(image: Image.Image) -> Image.Image:
    """Turn a picture of any mode upright and into mode RGB.

    Transparency (alpha channel, transparent palette entry or colour key) is composited on white.
    16-bit and integer greyscale is scaled by its full range, 65535, never clipped. Floating point
    is taken as [0, 1]. Colour profiles are not applied, as classifiers were trained without.

    Args:
        image: A Pillow image of any mode and size; it is not changed.

    Returns:
        A picture of mode RGB, rotated as its EXIF orientation says.

    Raises:
        ImageError: Floating point outside [0, 1], or integers outside [0, 65535].

    Example:
        >>> to_rgb(Image.new("LA", (1, 1), (0, 0))).getpixel((0, 0))
        (255, 255, 255)
    """
    image = _upright(image)
    if image.mode == "F" or image.mode.startswith("I"):
        image = _grey(image)
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
    return image if image.mode == "RGB" else image.convert("RGB")


def from_array(array: NDArray[Any]) -> Image.Image:
    """Turn an array into a picture of mode RGB.

    Args:
        array: (H, W) or (H, W, C) with C = 1 (grey), 3 (RGB) or 4 (RGB and alpha, composited on
            white); uint8, uint16 or floating point in [0, 1].

    Returns:
        A picture of mode RGB, W wide and H high.

    Raises:
        InputError: Another rank, number of channels, type or range.

    Example:
        >>> from_array(np.full((2, 3), 0.5)).getpixel((0, 0))
        (128, 128, 128)
    """
    grid = array[..., None] if array.ndim == 2 else array
    if grid.ndim != 3 or grid.shape[2] not in _CHANNELS or 0 in grid.shape:
        raise InputError(
            f"expected one photo (H, W) or (H, W, C) with C = 1, 3 or 4, got {array.shape}; "
            "reorder the axes, pass photos of a batch one by one, leave no side empty"
        )
    values = _eight_bit(grid)
    if values.shape[2] == 1:
        return Image.fromarray(values[..., 0]).convert("RGB")
    return to_rgb(Image.fromarray(values))


def _upright(image: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # damaged EXIF raises many kinds; viewers ignore it, and so does this
        image.load()  # damaged pixels, in contrast, must be heard of
        return image


def _grey(image: Image.Image) -> Image.Image:
    values = np.asarray(image)
    if image.mode == "F":
        try:
            return Image.fromarray(_eight_bit(values))
        except InputError as error:
            raise ImageError(str(error)) from None
    low, high = int(values.min()), int(values.max())
    if low < 0 or high > _FULL_RANGE:
        raise ImageError(
            f"expected integer grey values in [0, {_FULL_RANGE}], got [{low}, {high}]; "
            "scale and save them as 8- or 16-bit"
        )
    return Image.fromarray(_eight_bit(values.astype(np.uint16)))


def unit_range(values: NDArray[Any]) -> NDArray[np.float32]:
    """Bring uint8 and uint16 by their full ranges, and floating point as it is, to [0, 1].

    Raises:
        InputError: Another type, or floating point outside [0, 1].
    """
    if values.dtype in (np.uint8, np.uint16):
        return (values / np.iinfo(values.dtype).max).astype(np.float32)
    return _checked(values).astype(np.float32)


def _eight_bit(values: NDArray[Any]) -> NDArray[np.uint8]:
    if values.dtype == np.uint8:
        return np.ascontiguousarray(values)
    if values.dtype == np.uint16:
        # 65535 = 257 * 255, so this is values / 65535 * 255, rounded, in exact integers.
        return ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)
    scaled: NDArray[np.uint8] = (_checked(values) * 255 + 0.5).astype(np.uint8)
    return scaled


def _checked(values: NDArray[Any]) -> NDArray[np.float64]:
    """Return floating-point pixels, cut off at 0 and 1 where rounding left them."""
    if not np.issubdtype(values.dtype, np.floating):
        raise InputError(
            f"expected pixels of type uint8, uint16 or floating point, got {values.dtype}; "
            "convert values from 0 to 255 to uint8"
        )
    low, high = float(values.min()), float(values.max())
    if not (low >= -_TOLERANCE and high <= 1 + _TOLERANCE):  # also true for NaN
        raise InputError(
            f"expected floating-point pixels in [0, 1], got [{low:.4g}, {high:.4g}]; divide values "
            "from 0 to 255 by 255; tensors already normalised go to the explainer itself"
        )
    return values.astype(np.float64).clip(0, 1)
