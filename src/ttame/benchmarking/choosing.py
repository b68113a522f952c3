"""From what the user asks for to a plan: methods, measures and photos, checked before any work."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ttame.benchmarking.halves import arrange, seeds_of
from ttame.benchmarking.plan import PhotoSet
from ttame.errors import InputError, unknown_name
from ttame.images.listing import list_photos
from ttame.methods.registry import Method, get_method
from ttame.methods.registry import methods as registered_methods
from ttame.methods.trained import TRAINED
from ttame.metrics.measure import Measure, measures

if TYPE_CHECKING:
    from ttame.backbone.contract import Backbone

TRUTH = frozenset({"truth", "region"})
"""Needs that photos with marked objects serve."""

PAIR = frozenset({"pair"})
"""Needs that pictures of two photos serve."""

_LACKING = {
    "truth": "marked objects; give a file of boxes (--boxes)",
    "region": "segmentation masks; give a file of them (--regions)",
    "judge": "another classifier as judge (--judge)",
}


def choose_methods(
    wanted: Sequence[str | Method] | str | None, explainers: Collection[str]
) -> tuple[Method, ...]:
    """Return the methods to compare the explainers with.

    Args:
        wanted: Names or methods; None and ``"all"`` take every registered one, also those that
            lack a package, which the result then tells.
        explainers: Names of the explainers, which no method has; they may be among ``wanted``.

    Raises:
        UnknownNameError: There is no such method.
        InputError: A package is missing, a name comes twice, a trained method has no explainer, or
            an explainer has a method's name.
    """
    known = registered_methods()
    for name in explainers:
        if name in known:
            raise InputError(f"the name {name!r} belongs to a method; name the explainer otherwise")
    if _all(wanted):
        chosen = list(known.values())
    else:
        names = [wanted] if isinstance(wanted, str) else list(wanted or ())
        chosen = [
            item if isinstance(item, Method) else _untrained(item)
            for item in names
            if isinstance(item, Method) or item not in explainers
        ]
    every = [*explainers, *(method.name for method in chosen)]
    if len(set(every)) != len(every) or not every:
        raise InputError(f"expected different methods, at least one, got {', '.join(every)}")
    return tuple(chosen)


def _untrained(name: str) -> Method:
    if name in TRAINED:
        given_by = TRAINED[name].option
        raise InputError(f"the method {name!r} needs an explainer; give one ({given_by})")
    return get_method(name)


def choose_measures(
    wanted: Sequence[str | Measure] | str | None, boxes: bool, judge: bool, regions: bool = False
) -> tuple[Measure, ...]:
    """Return the measures to take.

    Args:
        wanted: Measures, or names of measures or of single metrics (``"ad_50"`` takes the measure
            that gives it); None and ``"all"`` take every one that can be taken.
        boxes: Whether objects are marked by boxes.
        judge: Whether there is another classifier.
        regions: Whether objects are marked by segmentation masks.

    Raises:
        UnknownNameError: There is no such measure or metric.
        InputError: A measure needs boxes, masks or a judge that are not given.
    """
    given = {"truth": boxes, "region": regions, "judge": judge}
    if _all(wanted):
        return tuple(item for item in measures().values() if not _lacks(item, given))
    chosen: dict[str, Measure] = {}
    for item in [wanted] if isinstance(wanted, str) else wanted or ():
        measure = item if isinstance(item, Measure) else find_measure(item)
        lacks = _lacks(measure, given)
        if lacks:
            raise InputError(f"the measure {measure.name!r} needs {lacks}")
        chosen.setdefault(measure.name, measure)
    if not chosen:
        raise InputError("expected at least one measure, got none")
    return tuple(chosen.values())


def left_out(
    taken: Sequence[Measure],
    methods: Sequence[Method],
    explainers: Collection[str],
    boxes: bool,
    judge: bool,
    regions: bool = False,
) -> dict[str, str]:
    """Name what a run of everything cannot take, each with the reason.

    Returns:
        Of measures where all were asked for that can be taken, of methods where all were.

    Example:
        >>> every = choose_measures("all", boxes=True, judge=False)
        >>> left_out(every, (), ("ttame",), boxes=True, judge=False)["transfer"]
        'needs another classifier as judge (--judge)'
    """
    given = {"truth": boxes, "region": regions, "judge": judge}
    lacking = {item.name: _lacks(item, given) for item in measures().values()}
    found: dict[str, str] = {}
    if {item.name for item in taken} >= {name for name, lacks in lacking.items() if not lacks}:
        found |= {name: f"needs {lacks}" for name, lacks in lacking.items() if lacks}
    if {item.name for item in methods} >= set(registered_methods()):
        missing = (name for name in TRAINED if name not in explainers)
        found |= {name: f"needs an explainer ({TRAINED[name].option})" for name in missing}
    return found


def find_measure(name: str) -> Measure:
    """Return a measure by its own name or that of one of its metrics.

    Raises:
        UnknownNameError: There is neither.

    Example:
        >>> find_measure("ad_50").name
        'confidence'
    """
    known = measures()
    if name in known:
        return known[name]
    by_metric = {
        metric: measure for measure in known.values() for metric in measure.metrics(measure.options)
    }
    if name not in by_metric:
        raise unknown_name("measure or metric", name, [*known, *by_metric])
    return by_metric[name]


def mark_slow(
    names: Collection[str], measures: Sequence[Measure], methods: Sequence[Method]
) -> tuple[tuple[Measure, ...], tuple[Method, ...]]:
    """Let further measures and methods count as slow, so that they are given few photos.

    Raises:
        UnknownNameError: None of them has that name.
    """
    known = {measure.name for measure in measures} | {method.name for method in methods}
    for name in names:
        if name not in known:
            raise unknown_name("method or measure of this run", name, sorted(known))
    return (
        tuple(replace(item, slow=item.slow or item.name in names) for item in measures),
        tuple(replace(item, slow=item.slow or item.name in names) for item in methods),
    )


def check_limits(
    limits: Mapping[str, int | None],
    measures: Sequence[Measure],
    methods: Sequence[Method],
    explainers: Collection[str] = (),
) -> None:
    """Refuse limits of what does not take part, and limits that leave nothing.

    Raises:
        UnknownNameError: No method, measure or explainer of the run has that name.
        InputError: Two have it, or a limit is neither None nor a whole number of at least 1.
    """
    known = [*(item.name for item in measures), *(item.name for item in methods), *explainers]
    for name, limit in limits.items():
        if name not in known:
            raise unknown_name("method or measure of this run", name, sorted(known))
        if known.count(name) > 1:
            raise InputError(
                f"a limit of {name!r} is one of a method and of a measure; name one of them "
                "otherwise"
            )
        whole = isinstance(limit, int | np.integer) and not isinstance(limit, bool)
        if limit is not None and not (whole and limit >= 1):
            raise InputError(
                f"expected a number of photos of at least 1, or None for all, as limit of {name}, "
                f"got {limit!r}"
            )


def photo_set(
    data: Any,
    backbone: Backbone,
    taken: Sequence[Measure],
    half: str,
    seed: int,
    images: int | None,
) -> PhotoSet:
    """Make the set of photos on which the classifier's own predictions are explained.

    Raises:
        InputError: There are no photos.
    """
    unlabelled = [replace(photo, label=None) for photo in list_photos(data)]
    photos = arrange(unlabelled, half, seed, images)
    return PhotoSet(
        name="photos",
        photos=tuple(photos),
        seeds=seeds_of(photos, unlabelled, seed),
        preprocessing=backbone.preprocessing,
        measures=tuple(item for item in taken if not (TRUTH | PAIR) & set(item.needs)),
    )


def _all(wanted: Sequence[object] | None) -> bool:
    return wanted is None or wanted == "all" or (len(wanted) == 1 and wanted[0] == "all")


def _lacks(measure: Measure, given: Mapping[str, bool]) -> str:
    """Say what a measure needs that is not there; empty if nothing."""
    return next((_LACKING[need] for need in measure.needs if not given.get(need, True)), "")
