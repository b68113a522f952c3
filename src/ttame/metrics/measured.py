"""Any measure as a torchmetrics metric that merges across batches and processes."""

from __future__ import annotations

from operator import itemgetter
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

from ttame.errors import unknown_name
from ttame.metrics.measure import Measure, Metric, get_measure
from ttame.metrics.per_image import PerImage

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import Tensor

    from ttame.metrics.case import Case

FoundT = TypeVar("FoundT")


class Measured(PerImage, Generic[FoundT]):
    """Running means of all metrics of a measure, or of one; keeps every image's values.

    All metrics cost the classifier's passes of one. Images without a value (NaN) do not count.

    Args:
        measure: A measure, or the name of one.
        metric: The only metric to follow, by its name in results: :meth:`compute` and
            :meth:`per_image` return its tensor. None: all, and they return dictionaries by name.
        **options: Of :class:`torchmetrics.Metric`.

    Raises:
        UnknownNameError: There is no such measure, or it gives no such metric.

    Example:
        >>> Measured("confidence", "ad_50").higher_is_better
        False
        >>> list(Measured("segmentation").per_image())
        ['mass_in_mask', 'iou']
    """

    @overload
    def __init__(
        self: Measured[Tensor], measure: Measure | str, metric: str, **options: Any
    ) -> None: ...

    @overload
    def __init__(
        self: Measured[dict[str, Tensor]],
        measure: Measure | str,
        metric: None = None,
        **options: Any,
    ) -> None: ...

    def __init__(self, measure: Measure | str, metric: str | None = None, **options: Any) -> None:
        measure = get_measure(measure) if isinstance(measure, str) else measure
        known = measure.metrics(measure.options)
        if metric is not None and metric not in known:
            raise unknown_name(f"metric of {measure.name}", metric, known)
        states = {name: f"values_{name}" for name in ([metric] if metric else known)}
        form: Any = dict if metric is None else itemgetter(metric)
        super().__init__(states.values(), **options)
        self.measure = measure
        self.metric = metric
        self._states = states
        self._form: Callable[[Mapping[str, Tensor]], FoundT] = form

    @property
    def metrics(self) -> dict[str, Metric]:
        """The metrics followed, by name: their titles, units and which end is better."""
        known = self.measure.metrics(self.measure.options)
        return {name: known[name] for name in self._states}

    @property
    def higher_is_better(self) -> bool | None:  # type: ignore[override]
        """Which end of the only metric is better; None where neither is, or all are followed."""
        return None if self.metric is None else self.metrics[self.metric].higher_is_better

    def update(self, case: Case) -> None:
        """Measure a batch, once for all metrics."""
        values = self.measure(case).values
        for name, state in self._states.items():
            self._keep(values[name], state)

    def compute(self) -> FoundT:
        """Return each metric's mean over all images seen that have a value; NaN if none has."""
        return self._form({name: self._kept(at).nanmean() for name, at in self._states.items()})

    def per_image(self) -> FoundT:
        """Return each metric's value of every image seen, (N,) float64; NaN for those without."""
        return self._form({name: self._kept(at) for name, at in self._states.items()})
