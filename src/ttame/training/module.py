"""The training step: maps -> masks -> the same backbone or a teacher's maps -> objective."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import lightning.pytorch as pl
import torch
from torch import Tensor

from ttame import masking
from ttame.activation import probabilities, pseudo_labels
from ttame.backbone.affine import AffineNorms
from ttame.detail import mixed_with_edges
from ttame.metrics.confidence import average_drop, increase_in_confidence
from ttame.metrics.shares import cut_to_shares
from ttame.normalisation import full_masks
from ttame.objective import ObjectiveWeights, disagreement, objective
from ttame.training.teacher import find_teacher, taught_maps, with_other_classes

if TYPE_CHECKING:
    from ttame.backbone.contract import BackboneOutput
    from ttame.explainer import Explainer
    from ttame.images.dataset import Batch
    from ttame.methods.registry import Method
    from ttame.training.config import TrainingConfig

# Width of the fade at a share's threshold: narrow against [0, 1], wide enough for gradients.
SOFTNESS = 0.05
VALIDATION_SHARES = (1.0, 0.5, 0.15)


class ExplainerTraining(pl.LightningModule):
    """Trains an explainer's attention mechanism; its classifier is only ever read.

    Args:
        explainer: Its attention mechanism is trained in place.
        config: Settings.
    """

    def __init__(self, explainer: Explainer, config: TrainingConfig) -> None:
        super().__init__()
        self.attention = explainer.attention
        self.config = config
        self.weights = ObjectiveWeights(
            config.cross_entropy_weight,
            config.area_weight,
            config.variation_weight,
            config.cross_entropy_bound,
        )
        # In a tuple, so that the classifier is no part of this module: lightning neither trains
        # nor saves it, and checkpoints hold the attention mechanism only.
        self._frozen = (explainer.backbone,)
        self.activation = explainer.backbone.activation
        self.teacher = find_teacher(config.teacher)

    def setup(self, stage: str) -> None:  # noqa: ARG002
        """Bring the classifier to the training's device, channels last."""
        self._frozen[0].to(self.device).to(memory_format=torch.channels_last)

    def forward(self, images: Tensor, classes: Tensor | None = None) -> tuple[Tensor, ...]:
        """Return logits (B, K), the classes (B, n) and their maps (B, n, h, w)."""
        output = self._read(images)
        if classes is None:
            classes = output.logits.argmax(dim=1, keepdim=True)
        return output.logits, classes, self.attention(output.features, classes)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor | None:  # noqa: ARG002
        """Return the objective of one batch; None (no step) if it is not finite."""
        if len(batch.pixels) < 2:
            return None
        images = self.normalised(batch)
        before = [statistic.clone() for statistic in self._statistics()]
        output = self._read(images)
        labels = pseudo_labels(output.logits, self.activation)
        if self.teacher is None:
            terms = self._keep_class(images, output, labels)
        else:
            terms = self._learn_from(self.teacher, images, output, labels)
        self.log_dict(terms, prog_bar=True, batch_size=len(images))
        if not torch.isfinite(terms["loss"]):
            for statistic, value in zip(self._statistics(), before, strict=True):
                statistic.copy_(value)
            self.stop_on_nan()
            return None
        return terms["loss"]

    def _keep_class(
        self, images: Tensor, output: BackboneOutput, labels: Tensor
    ) -> dict[str, Tensor]:
        """Mask the images by their maps and see whether their classes stay."""
        if self.config.block:
            maps = self.attention(output.features, labels.expand(len(labels), -1))
            regularised = self._masks(maps)
            masks = regularised.diagonal(dim1=0, dim2=1).permute(2, 0, 1).unsqueeze(1)
        else:
            maps = self.attention(output.features, labels[:, None])
            masks = regularised = self._masks(maps)
        logits = self._classify(self._masked(images, masks))
        terms = objective(logits, labels, regularised, self.weights, self.activation)
        return {**terms, "mask_area": masks.detach().mean()}

    def _learn_from(
        self, teacher: Method, images: Tensor, output: BackboneOutput, labels: Tensor
    ) -> dict[str, Tensor]:
        """Compare the maps of the labels and of other classes with the teacher's, half and half."""
        classes = with_other_classes(labels, output.logits.shape[1], self.config.teacher_classes)
        maps = self.attention(output.features, classes)
        grid = (maps.shape[-2], maps.shape[-1])
        taught = taught_maps(teacher, self._frozen[0], images, classes, grid)
        # Not smoothed: a map that learnt to look like the teacher's behind a blur would undo it.
        masks = masking.to_masks(maps, self.config.mask_form)
        apart = disagreement(masks, taught)
        loss = (apart[:, 0].mean() + apart[:, 1:].mean()) / 2
        return {"loss": loss, "mask_area": masks.detach().mean()}

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:  # noqa: ARG002
        """Drop a step whose gradients are not finite (fp16's scaler sees to its own)."""
        if self.trainer.precision == "16-mixed":
            return
        for parameter in self.attention.parameters():
            if parameter.grad is not None and not torch.isfinite(parameter.grad).all():
                self.zero_grad(set_to_none=True)
                self.stop_on_nan()
                return

    def stop_on_nan(self) -> None:
        """End the training; the parameters are those before the bad step."""
        self.nan_at_step = self.global_step
        self.trainer.should_stop = True

    nan_at_step: int | None = None

    def _statistics(self) -> list[Tensor]:
        """Return the running statistics of the branches, which a forward pass alone moves."""
        return list(self.attention.branches.buffers())

    def validation_step(self, batch: Batch, batch_idx: int) -> None:  # noqa: ARG002
        """Score AD and IC at 100, 50 and 15 %, and look for collapse."""
        if not len(batch.pixels):
            return
        images = self.normalised(batch)
        logits, classes, maps = self(images)
        p = self._probabilities(logits, classes)
        masks = masking.shown_masks(maps, self.config.mask_form, self.config.smoothing)[:, 0]
        size = (images.shape[-2], images.shape[-1])
        full = full_masks(
            masks,
            size,
            upsampling=self.config.upsampling,
            detail=self.config.detail,
            pixels=self._pixels(images),
        )
        scores: dict[str, Tensor] = {"val/mask_area": full.mean()}
        drops = []
        cuts = cut_to_shares(full, VALIDATION_SHARES)
        for index, share in enumerate(VALIDATION_SHARES):
            masked = self._blend(images, cuts[:, index : index + 1], "black")
            o = self._probabilities(self._classify(masked), classes)
            drops.append(average_drop(p, o).mean())
            scores[f"val/ad_{round(100 * share)}"] = drops[-1]
            scores[f"val/ic_{round(100 * share)}"] = increase_in_confidence(p, o).mean()
        scores["val/ad"] = torch.stack(drops).mean()
        self.log_dict(scores, batch_size=len(images), on_epoch=True)

    def configure_optimizers(self) -> Any:
        """AdamW or Nesterov SGD, decay on all but biases, OneCycle over all steps."""
        config = self.config
        named = dict(self.attention.named_parameters())
        biases = [value for name, value in named.items() if name.endswith("bias")]
        others = [value for name, value in named.items() if not name.endswith("bias")]
        groups = [
            {"params": others, "weight_decay": config.weight_decay},
            {"params": biases, "weight_decay": 0.0},
        ]
        optimizer: torch.optim.Optimizer
        if config.optimizer == "sgd":
            optimizer = torch.optim.SGD(
                groups, lr=config.lr, momentum=config.momentum, nesterov=config.momentum > 0
            )
        else:
            optimizer = torch.optim.AdamW(groups, lr=config.lr)
        steps = max(2, int(self.trainer.estimated_stepping_batches))
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer,
            config.lr,
            total_steps=steps + 1,
            # It would replace SGD's momentum by its own; AdamW's first beta may be cycled.
            cycle_momentum=config.optimizer != "sgd",
        )
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }

    def normalised(self, batch: Batch) -> Tensor:
        """Return a batch as the classifier takes it: (B, C, H, W), normalised, channels last."""
        images = self._frozen[0].preprocessing.normalise(batch.pixels.to(self.device))
        return images.contiguous(memory_format=torch.channels_last)

    @torch.no_grad()
    def _read(self, images: Tensor) -> BackboneOutput:
        with AffineNorms():
            output: BackboneOutput = self._frozen[0](images)
        return output

    def _classify(self, masked: Tensor) -> Tensor:
        # With the arithmetic of _read: other rounding would count as a drop or a gain.
        with AffineNorms():
            return self._frozen[0].logits(masked)

    def _probabilities(self, logits: Tensor, classes: Tensor) -> Tensor:
        return probabilities(logits.float(), self.activation).gather(1, classes)[:, 0]

    def _masks(self, maps: Tensor) -> Tensor:
        smoothed = masking.smooth(maps, self.config.smoothing)
        return masking.to_masks(smoothed, self.config.mask_form)

    def _masked(self, images: Tensor, masks: Tensor) -> Tensor:
        """Mask images (B, C, H, W) by masks (B, 1, h, w), each cut to a share drawn for it."""
        size = (images.shape[-2], images.shape[-1])
        full = masking.upsample(masks, size, self.config.upsampling)
        if self.config.detail:
            # Not stretched as shown masks are: ranks span [0, 1] nearly, and gradients stay plain.
            full = mixed_with_edges(full, self._pixels(images), self.config.detail)
        shares = torch.tensor(self.config.shares, device=images.device)
        if float(shares.min()) < 1:
            drawn = shares[torch.randint(len(shares), (len(images),), device=images.device)]
            full = masking.keep_share(full, drawn, SOFTNESS)
        return self._blend(images, full, self.config.fill)

    def _pixels(self, images: Tensor) -> Tensor:
        return self._frozen[0].preprocessing.denormalise(images).clamp(0, 1)

    def _blend(self, images: Tensor, full: Tensor, fill: str) -> Tensor:
        colour = masking.make_fill(fill, images, self._frozen[0].preprocessing)
        masked = masking.apply_mask(images, full, colour)
        return masked.contiguous(memory_format=torch.channels_last)
