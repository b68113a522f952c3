"""Running means over images that merge across batches and processes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ttame.metrics.confidence import average_drop, average_gain, increase_in_confidence
from ttame.metrics.per_image import PerImage

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor


def mask_area(masks: Tensor) -> Tensor:
    """Return the mean value of each mask (B, H, W): (B,) in [0, 1].

    Read it beside every score: an almost-all-ones mask has an average drop near 0.

    Example:
        >>> import torch
        >>> mask_area(torch.tensor([[[0.0, 1.0], [1.0, 1.0]]]))
        tensor([0.7500])
    """
    return masks.flatten(1).mean(dim=1)


class PerImageMean(PerImage):
    """The mean of a function of single images; keeps every image's value.

    Subclasses set ``function``.

    Example:
        >>> import torch
        >>> metric = AverageDrop()
        >>> metric.update(torch.tensor([0.8]), torch.tensor([0.2]))
        >>> metric.update(torch.tensor([0.5, 0.5]), torch.tensor([0.5, 0.9]))
        >>> metric.compute()
        tensor(25., dtype=torch.float64)
        >>> metric.per_image()
        tensor([75.,  0.,  0.], dtype=torch.float64)
    """

    function: Callable[..., Tensor]

    def __init__(self, **options: Any) -> None:
        super().__init__([self._state], **options)

    @property
    def _state(self) -> str:
        return f"values_{type(self).__name__}"

    def update(self, *tensors: Tensor) -> None:
        """Add a batch: the arguments of ``function``, each with the images first."""
        self._keep(type(self).function(*tensors), self._state)

    def compute(self) -> Tensor:
        """Return the mean over all images seen; NaN before the first."""
        return self.per_image().mean()

    def per_image(self) -> Tensor:
        """Return the value of every image seen, (N,) float64."""
        return self._kept(self._state)


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
