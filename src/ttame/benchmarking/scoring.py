"""Scoring methods on one batch of images: maps, masks, masked passes, metrics."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd
import torch

from ttame.masking import apply_mask
from ttame.metrics.faithfulness import CONFIDENCE_METRICS, mask_area
from ttame.metrics.shares import area_matched, cut_to_shares, full_masks, without_nan

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from ttame.backbone.contract import Backbone
    from ttame.methods.registry import Method


def metric_name(name: str, share: float, matched: bool) -> str:
    """Return the name of a metric at a share of the pixels.

    Example:
        >>> metric_name("ad", 0.15, matched=True)
        'ad_15_matched'
    """
    return f"{name}_{100 * share:g}" + ("_matched" if matched else "")


@dataclass(frozen=True)
class Scorer:
    """Scores methods on batches, each image on its predicted class.

    Attributes:
        backbone: The classifier.
        methods: The methods to score.
        shares: Shares of the pixels that stay, in (0, 1].
        rule: How shares are cut, ``"quantile"`` or ``"exact"``.
        batch_size: Masked images per forward pass.
    """

    backbone: Backbone
    methods: tuple[Method, ...]
    shares: tuple[float, ...]
    rule: str = "quantile"
    batch_size: int = 32

    def score(self, pixels: Tensor, seeds: Sequence[int]) -> pd.DataFrame:
        """Score all methods on a batch; the unmasked pass is shared between them.

        Args:
            pixels: (B, C, H, W) in [0, 1], at the classifier's input size.
            seeds: One seed per image, for the order of ties.

        Returns:
            A row per method and image: class, its probability, method, metrics, ``nan_map``.
        """
        with torch.inference_mode():
            p, classes = self._probabilities(pixels).max(dim=1)
        images = self._images(pixels)
        # An index made under inference mode could not take part in a gradient method.
        classes = classes.clone()
        names = self.backbone.class_names
        common = {
            "class_index": classes.tolist(),
            "class_name": [names[index] if names else str(index) for index in classes.tolist()],
            "probability": p.tolist(),
        }
        frames = []
        for method in self.methods:
            maps = method(self.backbone, images, classes[:, None])[:, 0]
            with torch.inference_mode():
                maps, replaced = without_nan(maps)
                size = (pixels.shape[2], pixels.shape[3])
                masks = full_masks(maps, size, stretch=not method.gives_masks)
                metrics = self.metrics(pixels, masks, p, classes, seeds)
            flags = {"nan_map": replaced.tolist()}
            frames.append(pd.DataFrame({**common, "method": method.name, **metrics, **flags}))
        table: pd.DataFrame = pd.concat(frames)
        return table

    def metrics(
        self, pixels: Tensor, masks: Tensor, p: Tensor, classes: Tensor, seeds: Sequence[int]
    ) -> dict[str, list[Any]]:
        """Return every metric of one mask per image.

        Args:
            pixels: (B, C, H, W) in [0, 1].
            masks: (B, H, W) in [0, 1].
            p: (B,) probabilities of the classes on the full images.
            classes: (B,) class indices.
            seeds: One seed per image.

        Returns:
            B values for each metric's name.
        """
        plain = cut_to_shares(masks, self.shares, self.rule, seeds)
        matched = cut_to_shares(area_matched(masks, seeds), self.shares, self.rule, seeds)
        masks_by_cut = torch.cat([plain, matched], dim=1)
        o = self._masked_probabilities(pixels, masks_by_cut, classes)
        # An image that is not masked at all has p by definition; a second pass has p plus rounding
        # noise, and IC would count every other one as an increase.
        o = torch.where((masks_by_cut == 1).all(dim=-1).all(dim=-1), p[:, None], o)
        cuts = [(share, is_matched) for is_matched in (False, True) for share in self.shares]
        values = {
            metric_name(name, *cut): metric.function(p, column).tolist()
            for cut, column in zip(cuts, o.unbind(dim=1), strict=True)
            for name, metric in CONFIDENCE_METRICS.items()
        }
        return {**values, "mask_area": mask_area(masks).tolist()}

    def _masked_probabilities(self, pixels: Tensor, masks: Tensor, classes: Tensor) -> Tensor:
        """Return the classes' probabilities (B, V) under V masks (B, V, H, W) of each image."""
        images, variants = masks.shape[:2]
        flat = masks.flatten(0, 1)
        parts = []
        for start in range(0, len(flat), self.batch_size):
            part = flat[start : start + self.batch_size, None]
            owners = torch.arange(start, start + len(part), device=flat.device) // variants
            chosen = classes[owners, None]
            masked = apply_mask(pixels[owners], part, 0.0)
            parts.append(self._probabilities(masked).gather(1, chosen)[:, 0])
        return torch.cat(parts).view(images, variants)

    def _probabilities(self, pixels: Tensor) -> Tensor:
        # In float64: differences of probabilities near 0 and 1 are what is measured.
        return self.backbone.logits(self._images(pixels)).double().softmax(dim=1)

    def _images(self, pixels: Tensor) -> Tensor:
        images = self.backbone.preprocessing.normalise(pixels)
        return images.contiguous(memory_format=torch.channels_last)
