"""What a call of an explainer returns: predictions, and a map for every asked class."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ttame import masking
from ttame.classes import short_name
from ttame.errors import InputError
from ttame.files import free_name, slug, write_atomically

if TYPE_CHECKING:
    from PIL import Image


@dataclass(frozen=True)
class Explanation:
    """Predictions and explanation maps of a batch of B images, n classes each.

    Attributes:
        logits: The classifier's own output, (B, K).
        probabilities: Softmax of the logits, or of a multi-label classifier their sigmoid, (B, K).
        classes: The explained classes, (B, n).
        maps: Before normalisation, (B, n, h, w), any range.
        masks: The maps normalised to [0, 1] one by one, (B, n, h, w); of an explainer whose
            upsampling is not bilinear, or that mixes in detail, at the size of the image,
            (B, n, H, W).
        pixels: What the classifier saw, (B, C, H, W) in [0, 1].
        class_names: K names, or None where they are not known.
        sources: One name per image (a path, where it came from a file), or None.
        provenance: Which explainer made this.
    """

    logits: Tensor
    probabilities: Tensor
    classes: Tensor
    maps: Tensor
    masks: Tensor
    pixels: Tensor
    class_names: tuple[str, ...] | None = None
    sources: tuple[str, ...] | None = None
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.logits)

    def label(self, i: int, j: int = 0) -> str:
        """Return the short name of image ``i``'s ``j``-th explained class, or its index as text."""
        index = int(self.classes[i, j])
        return short_name(self.class_names[index]) if self.class_names else str(index)

    def probability(self, i: int, j: int = 0) -> float:
        """Return the probability of image ``i``'s ``j``-th explained class, in [0, 1]."""
        return float(self.probabilities[i, self.classes[i, j]])

    def resize(self, size: tuple[int, int]) -> Explanation:
        """Return it at (H, W): maps resized bilinearly, masks as the explainer upsamples.

        Masks that shrink are averaged, so that no single pixel of their detail stands for many.
        """
        masks = self.masks.float()
        if size[0] < masks.shape[-2] or size[1] < masks.shape[-1]:
            masks = masking.resize(masks, size, antialias=True)
        else:
            masks = masking.upsample(masks, size, self.provenance.get("upsampling", "bilinear"))
        return replace(self, maps=masking.resize(self.maps.float(), size), masks=masks)

    def overlay(self, i: int = 0, j: int = 0) -> Image.Image:
        """Return image ``i`` as the classifier saw it under the colours of its ``j``-th mask."""
        from ttame import pictures

        return pictures.overlay(self.pixels[i], self.masks[i, j])

    def picture(self, i: int = 0, j: int = 0) -> Image.Image:
        """Return the overlay with a title (class and probability) and a colour bar."""
        from ttame import pictures

        title = f"{self.label(i, j)}  {self.probability(i, j):.1%}"
        return pictures.picture(self.pixels[i], self.masks[i, j], title)

    def stem(self, i: int, j: int = 0) -> str:
        """Return a file name for a picture, without its ending: photo and class."""
        source = Path(self.sources[i]).stem if self.sources else f"image-{i}"
        return f"{slug(source)}-{slug(self.label(i, j))}"

    def save(self, folder: str | Path) -> list[Path]:
        """Write every picture as PNG and all numbers as ``explanations.json`` into ``folder``.

        Returns:
            The pictures' paths, image by image and class by class.

        Raises:
            StorageError: The folder cannot be written.
        """
        from ttame import pictures

        folder = Path(folder)
        paths: list[Path] = []
        taken: set[str] = set()
        for i in range(len(self)):
            for j in range(self.classes.shape[1]):
                path = folder / f"{free_name(Path(self.stem(i, j)), taken)}.png"
                write_atomically(path, partial(pictures.write_png, self.picture(i, j)))
                paths.append(path)
        text = json.dumps(self.to_dict(), indent=2, ensure_ascii=False).encode()
        write_atomically(folder / "explanations.json", lambda file: file.write(text))
        return paths

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON: sources, classes, probabilities and mean mask areas."""
        return {
            "provenance": dict(self.provenance),
            "images": [
                {
                    "source": self.sources[i] if self.sources else None,
                    "classes": [
                        {
                            "index": int(self.classes[i, j]),
                            "name": self.label(i, j),
                            "probability": self.probability(i, j),
                            "mean_mask_area": float(self.masks[i, j].mean()),
                        }
                        for j in range(self.classes.shape[1])
                    ],
                }
                for i in range(len(self))
            ],
        }


def concatenate(parts: Sequence[Explanation]) -> Explanation:
    """Join explanations of several batches into one, in order.

    Raises:
        InputError: There is nothing to join, or the parts explain different numbers of classes.
    """
    if not parts:
        raise InputError("expected at least one explanation to join, got none")
    if len({part.maps.shape[1:] for part in parts}) > 1:
        raise InputError("expected explanations with equal numbers of classes and map sizes")
    tensors: dict[str, Any] = {
        item.name: torch.cat([getattr(part, item.name) for part in parts])
        for item in fields(Explanation)
        if isinstance(getattr(parts[0], item.name), Tensor)
    }
    sources = None
    if all(part.sources is not None for part in parts):
        sources = tuple(source for part in parts for source in part.sources or ())
    return replace(parts[0], **tensors, sources=sources)
