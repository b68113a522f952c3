"""How a classifier wants its photos: resize, crop, mean and standard deviation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image

from ttame.errors import InputError, unknown_name
from ttame.images.bands import Bands, Picture

if TYPE_CHECKING:
    from torch import Tensor

_RESAMPLING = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "nearest": Image.Resampling.NEAREST,
    "lanczos": Image.Resampling.LANCZOS,
}
# Photos longer than this are cut and resized in one step, which rounds a little differently:
# as a whole, 1 x 5000 pixels would become 256 x 1,280,000.
_LONG = 64


def _offset(room: int, place: float | None) -> int:
    """Where the crop starts when the photo is ``room`` pixels larger, as in torchvision."""
    if room <= 0:
        return -(-room // 2)
    return round(room / 2) if place is None else min(int(place * (room + 1)), room)


@dataclass(frozen=True)
class Preprocessing:
    """The way from a photo to the classifier's input.

    Attributes:
        crop: Height and width of the classifier's input, in pixels.
        resize: Length of the photo's short side before the centre crop, in pixels; a height and
            width squashes the photo to them before the crop; None squashes it to ``crop``.
        mean: Per-channel mean on the [0, 1] scale.
        std: Per-channel standard deviation on the [0, 1] scale.
        interpolation: ``"bilinear"``, ``"bicubic"``, ``"nearest"`` or ``"lanczos"``.
        reverse: Whether the input has its channels in reverse order (BGR); ``mean`` and ``std``
            are in the order of the photo's (RGB).

    Raises:
        InputError: A size is not positive or mean and std differ in length.

    Example:
        >>> from PIL import Image
        >>> preprocessing = Preprocessing(crop=(4, 4), resize=6, mean=(0.5,) * 3, std=(0.5,) * 3)
        >>> preprocessing.normalise(preprocessing.pixels(Image.new("RGB", (9, 6)))).unique()
        tensor([-1.])
    """

    crop: tuple[int, int] = (224, 224)
    resize: int | tuple[int, int] | None = 256
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)
    interpolation: str = "bilinear"
    reverse: bool = False

    def __post_init__(self) -> None:
        if min(self.crop) < 1 or min(self.resized_sides) < 1:
            raise InputError(
                f"expected positive sizes in pixels, got crop={self.crop}, resize={self.resize}"
            )
        if len(self.mean) != len(self.std) or min(self.std) <= 0:
            raise InputError(
                f"expected one positive std for every mean, got mean={self.mean}, std={self.std}"
            )
        if self.interpolation not in _RESAMPLING:
            raise unknown_name("interpolation", self.interpolation, _RESAMPLING)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Preprocessing:
        """Read the form that :meth:`to_dict` writes."""
        crop = tuple(int(side) for side in values["crop"])
        resize = values["resize"]
        if isinstance(resize, (list, tuple)):
            resize = (int(resize[0]), int(resize[1]))
        return cls(
            crop=(crop[0], crop[1]),
            resize=resize if resize is None or isinstance(resize, tuple) else int(resize),
            mean=tuple(float(value) for value in values["mean"]),
            std=tuple(float(value) for value in values["std"]),
            interpolation=str(values["interpolation"]),
            reverse=bool(values.get("reverse", False)),
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return asdict(self)

    @property
    def channels(self) -> int:
        """Number of colour channels that the classifier reads."""
        return len(self.mean)

    @property
    def resized_sides(self) -> tuple[int, ...]:
        """Short side of the resized photo or, where photos are squashed, its height and width."""
        if isinstance(self.resize, int):
            return (self.resize,)
        return self.crop if self.resize is None else self.resize

    def view(
        self, photo: Picture, scale: float = 1.0, place: tuple[float, float] | None = None
    ) -> Picture:
        """Resize and crop a photo to what the classifier sees, as an 8-bit picture.

        Args:
            photo: A photo of any size.
            scale: Enlarges the resized photo before the crop, which keeps its size.
            place: Where to crop, (across, down), each in [0, 1] from left or top; None: the centre.

        Returns:
            A picture of the size ``crop``.
        """
        size = self.size(photo, scale)
        height, width = self.crop
        across, down = place or (None, None)
        left, top = _offset(size[0] - width, across), _offset(size[1] - height, down)
        if max(size) > _LONG * min(size):
            return self._window(photo, size, (left, top, left + width, top + height))
        # A crop larger than the photo is filled with black, as torchvision's CenterCrop does.
        return self.resized(photo, scale).crop((left, top, left + width, top + height))

    def placement(self, width: int, height: int) -> tuple[tuple[float, float], tuple[int, int]]:
        """Say where the pixels of a photo of that size come to lie in the classifier's input.

        Returns:
            Factors (across, down) and corner (left, top): the point (x, y) of the photo comes to
            ``(x * across - left, y * down - top)``, inside the input or cut off.

        Example:
            >>> Preprocessing(crop=(4, 4), resize=6).placement(24, 12)
            ((0.5, 0.5), (4, 1))
        """
        size = self._size(width, height)
        left, top = (_offset(size[0] - self.crop[1], None), _offset(size[1] - self.crop[0], None))
        return (size[0] / width, size[1] / height), (left, top)

    def size(self, photo: Picture, scale: float = 1.0) -> tuple[int, int]:
        """Width and height of the resized photo, as torchvision's Resize computes them."""
        return self._size(*photo.size, scale)

    def _size(self, width: int, height: int, scale: float = 1.0) -> tuple[int, int]:
        if not isinstance(self.resize, int):
            rows, columns = self.resized_sides
            return max(1, round(columns * scale)), max(1, round(rows * scale))
        short = max(1, round(self.resize * scale))
        long = int(short * max(width, height) / min(width, height))
        return (short, long) if width <= height else (long, short)

    def resized(self, photo: Picture, scale: float = 1.0) -> Picture:
        """Resize or squash a photo as :attr:`resize` says, ``scale`` times as large."""
        size = self.size(photo, scale)
        return photo if size == photo.size else photo.resize(size, _RESAMPLING[self.interpolation])

    def _window(
        self, photo: Picture, size: tuple[int, int], window: tuple[int, int, int, int]
    ) -> Picture:
        """Cut ``window`` out of the photo resized to ``size`` without making the rest of it."""
        left, top = max(window[0], 0), max(window[1], 0)
        right, bottom = min(window[2], size[0]), min(window[3], size[1])
        across, down = photo.width / size[0], photo.height / size[1]
        part = photo.resize(
            (right - left, bottom - top),
            _RESAMPLING[self.interpolation],
            box=(left * across, top * down, right * across, bottom * down),
        )
        return part.crop((window[0] - left, window[1] - top, window[2] - left, window[3] - top))

    def pixels(self, photo: Picture) -> Tensor:
        """Return what the classifier sees as a (C, H, W) tensor in [0, 1]."""
        return self.to_tensor(self.view(photo))

    def to_tensor(self, view: Picture) -> Tensor:
        """Turn a picture of the right size into a (C, H, W) tensor in [0, 1]."""
        if isinstance(view, Bands):
            return torch.from_numpy(view.to_array())
        if self.channels == 1:
            view = view.convert("L")
        array = np.array(view, dtype=np.uint8)
        array = array[None] if array.ndim == 2 else array.transpose(2, 0, 1)
        if array.shape[0] != self.channels:
            raise InputError(
                f"the classifier reads {self.channels} channels and photos have {array.shape[0]}; "
                "pass tensors of the classifier's own input instead of photos"
            )
        return torch.from_numpy(np.ascontiguousarray(array)).float().div_(255)

    def normalise(self, pixels: Tensor) -> Tensor:
        """Map pixels in [0, 1], (..., C, H, W), to the classifier's input."""
        mean, std = self.statistics(pixels)
        images = (pixels - mean) / std
        return images.flip(-3) if self.reverse else images

    def denormalise(self, images: Tensor) -> Tensor:
        """Map the classifier's input, (..., C, H, W), back to pixels in [0, 1]."""
        mean, std = self.statistics(images)
        return (images.flip(-3) if self.reverse else images) * std + mean

    def statistics(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and std, each (C, 1, 1), on the device and in the type of ``like``.

        Both are in the order of the photo's channels.
        """
        mean = torch.tensor(self.mean, dtype=like.dtype, device=like.device)
        std = torch.tensor(self.std, dtype=like.dtype, device=like.device)
        return mean.view(-1, 1, 1), std.view(-1, 1, 1)
