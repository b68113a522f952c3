"""What a measure may look at: photos, a classifier, and one method's masks of one class each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import torch

from ttame.activation import probabilities
from ttame.errors import InputError
from ttame.normalisation import without_nan

if TYPE_CHECKING:
    from torch import Tensor

    from ttame.backbone.contract import Backbone

MapFunction = Callable[["Backbone", "Tensor", "Tensor"], "Tensor"]
MaskFunction = Callable[["Tensor", "Tensor"], "Tensor"]


@dataclass(frozen=True)
class Truth:
    """Where the explained class is, as people marked it; sizes in pixels of the input.

    Attributes:
        boxes: (n, 4) corners x0, y0, x1, y1 with x1 and y1 excluded; n may be 0.
        region: (H, W) boolean segmentation mask, or None.
    """

    boxes: Tensor
    region: Tensor | None = None


@dataclass(frozen=True)
class Case:
    """A batch of photos and one method's maps of one class each.

    No measure may let an image's values depend on the other images of the batch, nor change any
    tensor in place.

    Attributes:
        backbone: The classifier that is explained.
        pixels: (B, C, H, W) in [0, 1], at the classifier's input size.
        classes: (B,) explained class indices, usually the classifier's own predictions.
        p: (B,) float64 probabilities of the classes on the full images.
        maps: (B, h, w) finite, as the method gave them.
        masks: (B, H, W) in [0, 1]: what ``to_masks`` makes of the maps.
        seeds: One seed per image, for everything that is drawn or tied.
        explain: The method again: ``(backbone, images, classes (B, n)) -> maps (B, n, h, w)``.
        to_masks: How maps become masks: ``(maps (B, h, w), pixels) -> masks (B, H, W)``.
        batch_size: Most images per forward pass.
        truth: Per image where the class is, or None where nobody marked it; empty if unknown.
        judge: Another classifier that knows some of the classes, for the transfer score.

    Raises:
        InputError: A map or mask is not finite: it would be ranked, and score, as something.
    """

    backbone: Backbone
    pixels: Tensor
    classes: Tensor
    p: Tensor
    maps: Tensor
    masks: Tensor
    seeds: tuple[int, ...]
    explain: MapFunction
    to_masks: MaskFunction
    batch_size: int = 32
    truth: tuple[Truth | None, ...] = field(default=())
    judge: Backbone | None = None

    def __post_init__(self) -> None:
        for name, values in (("maps", self.maps), ("masks", self.masks)):
            finite = torch.isfinite(values).flatten(1).all(dim=1)
            if not bool(finite.all()):
                wrong = (~finite).nonzero().flatten().tolist()
                raise InputError(
                    f"expected finite {name}, got NaN or infinity in those of the images {wrong}; "
                    "decide what they count as (ttame.normalisation.without_nan: all zeros)"
                )

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the input, in pixels."""
        return self.pixels.shape[2], self.pixels.shape[3]

    @cached_property
    def images(self) -> Tensor:
        """The normalised input, (B, C, H, W)."""
        return normalised(self.backbone, self.pixels)

    def logits(self, pixels: Tensor, backbone: Backbone | None = None) -> Tensor:
        """Classify changed photos (N, C, H, W) in [0, 1], in passes of ``batch_size``.

        Args:
            pixels: Any number of them.
            backbone: Who classifies; None takes the explained classifier.

        Returns:
            (N, K) float64: differences of probabilities near 0 and 1 are what is measured.
        """
        backbone = self.backbone if backbone is None else backbone
        with torch.inference_mode():
            parts = [
                backbone.logits(normalised(backbone, part)).double()
                for part in torch.split(pixels, self.batch_size)
            ]
        return torch.cat(parts)

    def probabilities(self, pixels: Tensor, owners: Tensor | None = None) -> Tensor:
        """Return the probability of each photo's class on changed photos.

        Args:
            pixels: (N, C, H, W) in [0, 1].
            owners: (N,) which image of the batch each belongs to; None: the images in order.

        Returns:
            (N,) float64.
        """
        classes = self.classes if owners is None else self.classes[owners]
        p = probabilities(self.logits(pixels), self.backbone.activation)
        return p.gather(1, classes[:, None])[:, 0]

    def masks_of(
        self, pixels: Tensor, classes: Tensor | None = None, backbone: Backbone | None = None
    ) -> Tensor:
        """Explain changed photos, other classes or a changed classifier with the same method.

        Args:
            pixels: (B, C, H, W) in [0, 1].
            classes: (B,) classes; None takes the case's.
            backbone: Classifier; None takes the case's.

        Returns:
            (B, H, W) in [0, 1]; a map with NaN counts as all zeros.
        """
        backbone = self.backbone if backbone is None else backbone
        classes = self.classes if classes is None else classes
        # Tensors made under inference mode could not take part in a gradient method.
        with torch.inference_mode(False), torch.no_grad():
            images, wanted = normalised(backbone, pixels.clone()), classes.clone()[:, None]
        maps = self.explain(backbone, images, wanted)[:, 0]
        with torch.inference_mode():
            return self.to_masks(without_nan(maps)[0], pixels)


def normalised(backbone: Backbone, pixels: Tensor) -> Tensor:
    """Return photos in [0, 1] as the classifier takes them, channels last."""
    images = backbone.preprocessing.normalise(pixels)
    return images.contiguous(memory_format=torch.channels_last)
