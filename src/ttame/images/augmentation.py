"""Random views of photos for training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from PIL import Image

if TYPE_CHECKING:
    from ttame.images.bands import Picture
    from ttame.images.preprocessing import Preprocessing

_ROOM = 8 / 7  # 256 / 224, the usual room for a random crop


@dataclass(frozen=True)
class RandomView:
    """A random crop of the resized photo, mirrored half of the time.

    The short side is resized to the preprocessing's ``resize``; where that leaves the crop no room
    (the resized photo's short side is not larger than the crop's), the photo is enlarged by 8/7.
    Draws from torch's global generator, which loaders seed differently in each worker.

    Attributes:
        preprocessing: Gives sizes and interpolation.

    Example:
        >>> from ttame.images.preprocessing import Preprocessing
        >>> RandomView(Preprocessing())(Image.new("RGB", (500, 375))).size
        (224, 224)
    """

    preprocessing: Preprocessing

    @property
    def scale(self) -> float:
        """How much larger than the classifier's own resized photo this one is."""
        room = min(self.preprocessing.resized_sides) > min(self.preprocessing.crop)
        return 1.0 if room else _ROOM

    @property
    def enough(self) -> int:
        """Short side, in pixels, of the smallest photo that is not enlarged."""
        return int(self.scale * max(self.preprocessing.resized_sides)) + 1

    def __call__(self, photo: Picture) -> Picture:
        """Draw a view (of the size ``crop``) of a photo of mode RGB or of bands."""
        across, down, mirror = torch.rand(3).tolist()
        view = self.preprocessing.view(photo, scale=self.scale, place=(across, down))
        return view.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if mirror < 0.5 else view
