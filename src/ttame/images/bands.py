"""Photos of any number of channels, for classifiers that read neither colour nor greyscale."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from PIL import Image

from ttame.errors import ImageError, InputError
from ttame.images.colour import unit_range

if TYPE_CHECKING:
    from numpy.typing import NDArray

Picture: TypeAlias = "Image.Image | Bands"


class Bands:
    """One picture per channel, with what preprocessing asks of a Pillow picture.

    Args:
        channels: Floating-point pictures (mode F) of one size.

    Example:
        >>> Bands.from_array(np.zeros((4, 6, 5))).resize((3, 2)).to_array().shape
        (5, 2, 3)
    """

    def __init__(self, channels: Iterable[Image.Image]) -> None:
        self.channels = tuple(channels)

    @classmethod
    def from_array(cls, array: NDArray[Any]) -> Bands:
        """Read (H, W, C): uint8, uint16 (by their full ranges) or floating point in [0, 1].

        Raises:
            InputError: Another type or range.
        """
        values = np.ascontiguousarray(np.moveaxis(unit_range(array), 2, 0))
        return cls(Image.fromarray(channel) for channel in values)

    def to_array(self) -> NDArray[np.float32]:
        """Return (C, H, W) in [0, 1]; resampling beyond the range is cut off."""
        return np.stack([np.asarray(channel) for channel in self.channels]).clip(0, 1)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height."""
        return self.channels[0].size

    @property
    def width(self) -> int:
        """In pixels."""
        return self.size[0]

    @property
    def height(self) -> int:
        """In pixels."""
        return self.size[1]

    def resize(self, size: tuple[int, int], *args: Any, **options: Any) -> Bands:
        """Resize every channel as Pillow does."""
        return self._each(lambda channel: channel.resize(size, *args, **options))

    def crop(self, box: tuple[int, int, int, int]) -> Bands:
        """Cut (left, top, right, bottom) out of every channel; 0 beyond its sides."""
        return self._each(lambda channel: channel.crop(box))

    def transpose(self, method: Image.Transpose) -> Bands:
        """Mirror or turn every channel."""
        return self._each(lambda channel: channel.transpose(method))

    def _each(self, change: Callable[[Image.Image], Image.Image]) -> Bands:
        return Bands(change(channel) for channel in self.channels)


def as_bands(photo: object, channels: int) -> Bands:
    """Turn an array or tensor that holds one photo of ``channels`` channels into bands.

    Args:
        photo: A numpy array (H, W, C) or a torch tensor (C, H, W); uint8, uint16 or floating point
            in [0, 1].
        channels: C.

    Raises:
        ImageError: A file, bytes or a Pillow picture, which do not have such channels.
        InputError: Another shape, type or range.
    """
    # Not isinstance: reading photos shall not need torch.
    if hasattr(photo, "detach"):
        tensor = photo.detach().cpu()
        array = (tensor.float() if tensor.is_floating_point() else tensor).numpy()
        array = np.moveaxis(array, 0, -1) if array.ndim == 3 else array
    elif isinstance(photo, np.ndarray):
        array = photo
    else:
        raise ImageError(channels_needed(channels, type(photo).__name__))
    if array.ndim != 3 or array.shape[2] != channels or 0 in array.shape:
        raise InputError(channels_needed(channels, f"shape {tuple(getattr(photo, 'shape', ()))}"))
    return Bands.from_array(array)


def channels_needed(channels: int, came: str) -> str:
    """Say what a classifier of unusual channels is to be given."""
    return (
        f"the classifier reads {channels} channels, which photo files do not have: expected an "
        f"array (H, W, {channels}) or a tensor ({channels}, H, W) for each photo, got {came}"
    )
