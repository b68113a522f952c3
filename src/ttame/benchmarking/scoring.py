"""Scoring methods on one batch of images: maps, masks, masked passes, metrics."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd
import torch

from ttame.metrics.case import Case, normalised
from ttame.metrics.measure import get_measure
from ttame.metrics.shares import full_masks, without_nan

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from ttame.backbone.contract import Backbone
    from ttame.methods.registry import Method


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
            images = normalised(self.backbone, pixels)
            # In float64: differences of probabilities near 0 and 1 are what is measured.
            p, classes = self.backbone.logits(images).double().softmax(dim=1).max(dim=1)
        # An index made under inference mode could not take part in a gradient method.
        classes = classes.clone()
        names = self.backbone.class_names
        measure = get_measure("confidence", shares=self.shares, rule=self.rule)
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
                case = self._case(method, pixels, maps, p, classes, seeds)
                scores = measure(case)
            metrics = {name: values.tolist() for name, values in scores.values.items()}
            flags = {"nan_map": replaced.tolist()}
            frames.append(pd.DataFrame({**common, "method": method.name, **metrics, **flags}))
        table: pd.DataFrame = pd.concat(frames)
        return table

    def _case(
        self,
        method: Method,
        pixels: Tensor,
        maps: Tensor,
        p: Tensor,
        classes: Tensor,
        seeds: Sequence[int],
    ) -> Case:
        size = (pixels.shape[2], pixels.shape[3])
        return Case(
            backbone=self.backbone,
            pixels=pixels,
            classes=classes,
            p=p,
            maps=maps,
            masks=full_masks(maps, size, stretch=not method.gives_masks),
            seeds=tuple(seeds),
            explain=method,
            gives_masks=method.gives_masks,
            batch_size=self.batch_size,
        )
