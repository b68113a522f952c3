"""``ttame metrics``: what a benchmark can measure."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from ttame.cli.catalogue import catalogue, marked
from ttame.cli.console import say, stdout

if TYPE_CHECKING:
    from ttame.registry import Entry

_NEEDS = {
    "truth": "boxes (--boxes)",
    "region": "segmentation masks (--regions)",
    "pair": "photos of different classes",
    "judge": "another classifier as judge (--judge)",
    "maps": "explains again",
}

_MARKS = """\
explains again: each method gives further maps, which are not among the passes
passes: of the classifier, for the maps of one method
slow: scores only the first few photos of a set, unless all are asked for"""

_METRICS = """\
↑ higher is better, ↓ lower is better
names are those under the default options"""


def metrics() -> None:
    """List the measures: metrics, needs, passes, options, where they were published."""
    from ttame.metrics.measure import measures as registered

    measures = registered().values()
    of_measures = catalogue(
        ("measure", "title", "needs", "passes per photo", "paper"),
        [
            (
                measure.name,
                measure.title,
                ", ".join(_NEEDS[need] for need in measure.needs),
                marked(str(measure.passes(measure.options)), {"slow": measure.slow}),
                measure.paper,
            )
            for measure in measures
        ],
        _MARKS,
    )
    of_metrics = catalogue(
        ("metric", "better", "unit", "title", "measure"),
        [
            (name, metric.arrow or "neither", metric.unit, metric.title, measure.name)
            for measure in measures
            for name, metric in measure.metrics(measure.options).items()
        ],
        _METRICS,
    )
    stdout().print(of_measures, of_metrics)
    say("  options with their defaults, as --set takes them (in a shell: --set 'NAME.OPTION=VALUE')")
    for measure in measures:
        for text in settings(measure):
            say(f"  {text}")


def settings(entry: Entry) -> list[str]:
    """Write the options of a measure or method as ``--set`` takes them; values are JSON.

    Example:
        >>> from ttame.metrics.measure import get_measure
        >>> settings(get_measure("transfer"))
        ['transfer.shares=[1.0, 0.5, 0.15]', 'transfer.fill="black"']
    """
    return [
        f"{entry.name}.{option}={json.dumps(value, ensure_ascii=False)}"
        for option, value in entry.options.items()
    ]
