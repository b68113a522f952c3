"""Measures by name: each looks at a case and gives the values of one or several metrics.

To add one, put a file with a registered function into this package. The pure functions of the
metric come first in that file; the measure only brings photos, masks and classifier together.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, NamedTuple, SupportsIndex

from torch import Tensor

from ttame.metrics.case import Case
from ttame.registry import Registry, changed, reduced

NEEDS = ("truth", "region", "pair", "judge", "maps")

ARROWS: Mapping[bool | None, str] = MappingProxyType({True: "↑", False: "↓", None: ""})
"""Which end of a metric is better, by ``higher_is_better``."""


class Scores(NamedTuple):
    """What a measure returns.

    Attributes:
        values: One value per image, (B,), by metric; NaN where an image has none.
        curves: One curve per image, (B, S), by name.
    """

    values: Mapping[str, Tensor]
    curves: Mapping[str, Tensor] = {}


class Metric(NamedTuple):
    """A column of the results.

    Attributes:
        title: For tables and plots.
        higher_is_better: None where neither end is better.
        unit: For example ``"%"``; empty for plain numbers.
    """

    title: str
    higher_is_better: bool | None
    unit: str = ""

    @property
    def arrow(self) -> str:
        """Which end is better; empty where neither is.

        Example:
            >>> Metric("AD 50 %", higher_is_better=False).arrow
            '↓'
        """
        return ARROWS[self.higher_is_better]


MeasureFunction = Callable[..., Scores]
MetricsFunction = Callable[[Mapping[str, Any]], Mapping[str, Metric]]


@dataclass(frozen=True)
class Measure:
    """A measure with what people and the benchmark must know about it.

    Attributes:
        name: How it is called on the command line.
        title: For people.
        function: ``(case, **options) -> Scores``; per image, whatever the batch.
        metrics: The metrics it gives, by name, for its options.
        paper: Where it was published.
        needs: Some of ``NEEDS``: boxes round the class, a segmentation mask, pictures of two
            photos, another classifier, or that the method explains again.
        options: Its conventions with their values; written into every result.
        passes: Forward passes of the classifier per image and method, for its options.
        slow: Scored on the few photos of ``slow_images`` only, unless a limit says otherwise.
    """

    name: str
    title: str
    function: MeasureFunction
    metrics: MetricsFunction
    paper: str = ""
    needs: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    passes: Callable[[Mapping[str, Any]], int] = field(default=lambda _: 0)
    slow: bool = False

    def __call__(self, case: Case) -> Scores:
        """Measure a case; exactly the metrics of :attr:`metrics`, each (B,)."""
        return self.function(case, **self.options)

    def __reduce_ex__(self, protocol: SupportsIndex) -> Any:
        return reduced(self, protocol, measures)

    def with_options(self, **values: Any) -> Measure:
        """Return the measure under other conventions.

        Raises:
            UnknownNameError: It has no such option.
        """
        return replace(self, options=changed(self, values))


_MEASURES: Registry[Measure] = Registry("measure", "ttame.metrics", NEEDS)


def register(
    *,
    name: str,
    title: str,
    metrics: Mapping[str, Metric] | MetricsFunction,
    needs: tuple[str, ...] = (),
    **values: Any,
) -> Callable[[MeasureFunction], MeasureFunction]:
    """Register the decorated function as a measure.

    Args:
        name: Name of the measure, not yet taken.
        title: Title for people.
        metrics: The metrics it gives: a table, or a function of its options.
        needs: Some of ``NEEDS``.
        **values: Other attributes of :class:`Measure`.

    Raises:
        InputError: The name is taken.
        UnknownNameError: A need is unknown.
    """
    _MEASURES.check_needs(needs)
    table: MetricsFunction = metrics if callable(metrics) else lambda _: metrics

    def add(function: MeasureFunction) -> MeasureFunction:
        _MEASURES.add(
            Measure(name=name, title=title, function=function, metrics=table, needs=needs, **values)
        )
        return function

    return add


def measures() -> dict[str, Measure]:
    """Return every registered measure by name, in alphabetical order.

    Example:
        >>> "confidence" in measures()
        True
    """
    return _MEASURES.all()


def get_measure(name: str, **options: Any) -> Measure:
    """Return a measure by name, under other conventions if asked.

    Raises:
        UnknownNameError: There is no such measure or option.

    Example:
        >>> get_measure("confidence", rule="exact").options["rule"]
        'exact'
    """
    return _MEASURES.get(name).with_options(**options)
