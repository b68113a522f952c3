"""``ttame metrics``: what a benchmark can measure."""

from __future__ import annotations

from ttame.cli.catalogue import catalogue, tell_options, with_marks
from ttame.cli.console import stdout

_NEEDS = {
    "truth": "boxes (--boxes)",
    "region": "segmentation masks (--regions)",
    "pair": "photos of different classes",
    "judge": "another classifier as judge (--judge)",
    "maps": "explains again",
}

_MARKS = """\
explains again: the method gives further maps, whose passes are not counted here
passes: of the classifier, or of the judge, for the maps of one method
slow: scores only the first few photos of a set (--slow-images, --limit)"""

_METRICS = """\
↑ higher is better, ↓ lower is better
--metrics takes both; other options of a measure may give other metrics"""


def metrics() -> None:
    """List the measures: metrics and options, what they need and cost, where published."""
    from ttame.metrics.measure import measures as registered

    measures = registered().values()
    of_measures = catalogue(
        ("measure", "title", "needs", "passes per photo", "paper"),
        [
            (
                measure.name,
                measure.title,
                ", ".join(_NEEDS[need] for need in measure.needs),
                with_marks(str(measure.passes(measure.options)), {"slow": measure.slow}),
                measure.paper,
            )
            for measure in measures
        ],
        _MARKS,
    )
    of_metrics = catalogue(
        ("metric", "measure", "better", "unit", "title"),
        [
            (name, measure.name, metric.arrow or "neither", metric.unit, metric.title)
            for measure in measures
            for name, metric in measure.metrics(measure.options).items()
        ],
        _METRICS,
        names=2,
    )
    stdout().print(of_measures, of_metrics)
    tell_options(measures)
