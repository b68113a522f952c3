"""Running means over images that merge across batches and processes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from ttame.metrics.confidence import average_drop, average_gain, increase_in_confidence

if TYPE_CHECKING:
    from collections.abc import Callable


def mask_area(masks: Tensor) -> Tensor:
    """Return the mean value of each mask (B, H, W): (B,) in [0, 1].

    Read it beside every score: an almost-all-ones mask has an average drop near 0.

    Example:
        >>> mask_area(torch.tensor([[[0.0, 1.0], [1.0, 1.0]]]))
        tensor([0.7500])
    """
    return masks.flatten(1).mean(dim=1)


class PerImageMean(Metric):
    """The mean of a function of single images; keeps every image's value.

    The values are concatenated across batches and processes, so that the result depends neither on
    the batch size nor on a ragged last batch. Subclasses set ``function``.

    Example:
        >>> metric = AverageDrop()
        >>> metric.update(torch.tensor([0.8]), torch.tensor([0.2]))
        >>> metric.update(torch.tensor([0.5, 0.5]), torch.tensor([0.5, 0.9]))
        >>> metric.compute()
        tensor(25., dtype=torch.float64)
        >>> metric.per_image()
        tensor([75.,  0.,  0.], dtype=torch.float64)
    """

    function: Callable[..., Tensor]
    is_differentiable = False
    full_state_update = False
    values: list[Tensor]

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_state("values", default=[], dist_reduce_fx="cat")

    def update(self, *tensors: Tensor) -> None:
        """Add a batch: the arguments of ``function``, each with the images first."""
        self.values.append(type(self).function(*tensors).double())

    def compute(self) -> Tensor:
        """Return the mean over all images seen; NaN before the first."""
        return self.per_image().mean()

    def per_image(self) -> Tensor:
        """Return the value of every image seen, (N,)."""
        if isinstance(self.values, list) and not self.values:
            return torch.zeros(0, dtype=torch.float64, device=self.device)
        return dim_zero_cat(self.values)


class AverageDrop(PerImageMean):
    """AD, in percent: ``update(p, o)`` with the probabilities before and after masking."""

    function = staticmethod(average_drop)
    higher_is_better = False


class IncreaseInConfidence(PerImageMean):
    """IC, in percent: ``update(p, o)`` with the probabilities before and after masking."""

    function = staticmethod(increase_in_confidence)
    higher_is_better = True


class AverageGain(PerImageMean):
    """AG, in percent: ``update(p, o)`` with the probabilities before and after masking."""

    function = staticmethod(average_gain)
    higher_is_better = True


class MaskArea(PerImageMean):
    """Mean mask area, in [0, 1]: ``update(masks)``; neither high nor low is better."""

    function = staticmethod(mask_area)
    higher_is_better = None


CONFIDENCE_METRICS: dict[str, type[PerImageMean]] = {
    "ad": AverageDrop,
    "ic": IncreaseInConfidence,
    "ag": AverageGain,
}
"""What is computed from probabilities before and after masking, by its name in results."""
