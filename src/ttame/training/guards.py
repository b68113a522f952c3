"""Guards: warn loudly when a training collapses."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import lightning.pytorch as pl
import torch
from torch import Tensor

from ttame import masking
from ttame.training.module import ExplainerTraining

if TYPE_CHECKING:
    from ttame.images.dataset import Batch

_log = logging.getLogger(__name__)

SMALLEST_AREA, LARGEST_AREA = 0.02, 0.97
LARGEST_SIMILARITY = 0.995


def collapse_reasons(
    masks: Tensor, other_images: Tensor | None, other_classes: Tensor | None
) -> list[str]:
    """Say in what way masks have collapsed, if they have.

    Args:
        masks: Of different images, each for its own class, (B, h, w) in [0, 1].
        other_images: (B, h, w) for the same classes, of images shuffled in the batch; None skips.
        other_classes: (B, h, w) of the same images, each for another class; None skips.

    Returns:
        One sentence per finding; empty for sound masks.

    Example:
        >>> collapse_reasons(torch.ones(2, 4, 4), None, None)
        ['the mean mask area is 1.000: the masks keep everything']
    """
    reasons = []
    area = float(masks.mean())
    if area < SMALLEST_AREA:
        reasons.append(f"the mean mask area is {area:.3f}: the masks remove everything")
    if area > LARGEST_AREA:
        reasons.append(f"the mean mask area is {area:.3f}: the masks keep everything")
    for other, thing in ((other_images, "image"), (other_classes, "class")):
        if other is not None and similarity(masks, other) > LARGEST_SIMILARITY:
            reasons.append(f"the maps no longer depend on the {thing}")
    return reasons


def similarity(first: Tensor, second: Tensor) -> float:
    """Return the mean correlation of paired maps (B, h, w), in [-1, 1]; constant pairs count 1."""
    a, b = (
        x.flatten(1).float() - x.flatten(1).float().mean(1, keepdim=True) for x in (first, second)
    )
    norms = a.norm(dim=1) * b.norm(dim=1)
    correlation = torch.where(norms > 1e-9, (a * b).sum(1) / norms.clamp(min=1e-9), 1.0)
    return float(correlation.mean())


class CollapseGuard(pl.Callback):
    """Looks at the first validation batch of every epoch and warns of collapse."""

    def __init__(self) -> None:
        self.findings: list[str] = []

    @torch.no_grad()
    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,  # noqa: ARG002
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int = 0,  # noqa: ARG002
    ) -> None:
        """Compare maps of different images and of different classes."""
        if batch_idx or len(batch.pixels) < 2 or trainer.sanity_checking:
            return
        if not isinstance(pl_module, ExplainerTraining):
            raise TypeError(f"expected an ExplainerTraining, got {type(pl_module).__name__}")
        images = pl_module.normalised(batch)
        logits, labels, _ = pl_module(images)
        # Every image is asked for its own class, its neighbour's class and its least likely one:
        # rolled by one, the second gives the same class on another image.
        asked = torch.cat([labels, labels.roll(-1, 0), logits.argmin(1, keepdim=True)], dim=1)
        maps = pl_module(images, asked)[2]
        masks = masking.to_masks(maps, pl_module.config.mask_form)
        self.findings = collapse_reasons(masks[:, 0], masks[:, 1].roll(1, 0), masks[:, 2])
        for finding in self.findings:
            _log.warning(
                "the training has collapsed: %s; try another seed, a smaller learning rate, "
                "mask_form=ranks or another area weight",
                finding,
            )
