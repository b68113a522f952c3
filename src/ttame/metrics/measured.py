"""Any measure as a torchmetrics metric that merges across batches and processes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ttame.errors import unknown_name
from ttame.metrics.measure import Measure, get_measure
from ttame.metrics.per_image import PerImage

if TYPE_CHECKING:
    from torch import Tensor

    from ttame.metrics.case import Case


class Measured(PerImage):
    """Running mean of one metric of a measure; keeps every image's value.

    Images without a value (NaN) do not count.

    Args:
        measure: A measure, or the name of one.
        metric: The metric to follow, by its name in results.
        **options: Of :class:`torchmetrics.Metric`.

    Raises:
        UnknownNameError: There is no such measure, or it gives no such metric.

    Example:
        >>> Measured("confidence", "ad_50").higher_is_better
        False
    """

    def __init__(self, measure: Measure | str, metric: str, **options: Any) -> None:
        super().__init__(**options)
        self.measure = get_measure(measure) if isinstance(measure, str) else measure
        known = self.measure.metrics(self.measure.options)
        if metric not in known:
            raise unknown_name(f"metric of {self.measure.name}", metric, known)
        self.metric = metric

    @property
    def higher_is_better(self) -> bool | None:  # type: ignore[override]
        """Which end of the metric is better; None where neither is."""
        return self.measure.metrics(self.measure.options)[self.metric].higher_is_better

    def update(self, case: Case) -> None:
        """Measure a batch."""
        self._keep(self.measure(case).values[self.metric])

    def compute(self) -> Tensor:
        """Return the mean over all images seen that have a value; NaN if none has."""
        return self.per_image().nanmean()
