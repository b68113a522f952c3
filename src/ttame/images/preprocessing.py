"""How a classifier wants its photos: resize, crop, mean and standard deviation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image

from ttame.errors import InputError, unknown_name

if TYPE_CHECKING:
    from torch import Tensor

_RESAMPLING = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "nearest": Image.Resampling.NEAREST,
    "lanczos": Image.Resampling.LANCZOS,
}


@dataclass(frozen=True)
class Preprocessing:
    """The way from a photo to the classifier's input.

    Attributes:
        crop: Height and width of the classifier's input, in pixels.
        resize: Length of the photo's short side before the centre crop, in pixels; None squashes
            the photo to ``crop`` without cropping.
        mean: Per-channel mean on the [0, 1] scale.
        std: Per-channel standard deviation on the [0, 1] scale.
        interpolation: ``"bilinear"``, ``"bicubic"``, ``"nearest"`` or ``"lanczos"``.

    Raises:
        InputError: A size is not positive or mean and std differ in length.

    Example:
        >>> from PIL import Image
        >>> preprocessing = Preprocessing(crop=(4, 4), resize=6, mean=(0.5,) * 3, std=(0.5,) * 3)
        >>> preprocessing.normalise(preprocessing.pixels(Image.new("RGB", (9, 6)))).unique()
        tensor([-1.])
    """

    crop: tuple[int, int] = (224, 224)
    resize: int | None = 256
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)
    interpolation: str = "bilinear"

    def __post_init__(self) -> None:
        if min(self.crop) < 1 or (self.resize is not None and self.resize < 1):
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
        return cls(
            crop=(crop[0], crop[1]),
            resize=None if values["resize"] is None else int(values["resize"]),
            mean=tuple(float(value) for value in values["mean"]),
            std=tuple(float(value) for value in values["std"]),
            interpolation=str(values["interpolation"]),
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return asdict(self)

    @property
    def channels(self) -> int:
        """Number of colour channels that the classifier reads."""
        return len(self.mean)

    def view(self, photo: Image.Image) -> Image.Image:
        """Resize and centre-crop a photo to what the classifier sees, as an 8-bit picture."""
        photo = self.resized(photo)
        height, width = self.crop
        left, top = (photo.width - width) // 2, (photo.height - height) // 2
        # A crop larger than the photo is filled with black, as torchvision's CenterCrop does.
        return photo.crop((left, top, left + width, top + height))

    def resized(self, photo: Image.Image, scale: float = 1.0) -> Image.Image:
        """Resize a photo so that its short side is ``resize * scale``, or squash it to ``crop``."""
        if self.resize is None:
            size = (round(self.crop[1] * scale), round(self.crop[0] * scale))
        else:
            # The short side follows `resize`; the long side keeps the photo's proportions.
            factor = self.resize * scale / min(photo.size)
            size = (max(1, int(photo.width * factor + 1e-6)), max(1, int(photo.height * factor + 1e-6)))
        if size == photo.size:
            return photo
        return photo.resize(size, _RESAMPLING[self.interpolation])

    def pixels(self, photo: Image.Image) -> Tensor:
        """Return what the classifier sees as a (C, H, W) tensor in [0, 1]."""
        return self.to_tensor(self.view(photo))

    def to_tensor(self, view: Image.Image) -> Tensor:
        """Turn a picture of the right size into a (C, H, W) tensor in [0, 1]."""
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
        return (pixels - mean) / std

    def denormalise(self, images: Tensor) -> Tensor:
        """Map the classifier's input, (..., C, H, W), back to pixels in [0, 1]."""
        mean, std = self.statistics(images)
        return images * std + mean

    def statistics(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and std, each (C, 1, 1), on the device and in the type of ``like``."""
        mean = torch.tensor(self.mean, dtype=like.dtype, device=like.device)
        std = torch.tensor(self.std, dtype=like.dtype, device=like.device)
        return mean.view(-1, 1, 1), std.view(-1, 1, 1)
