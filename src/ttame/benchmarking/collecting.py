"""From records to a result: tables, curves and times, in the plan's order whoever came first."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ttame.benchmarking.benchmark_result import KEYS, BenchmarkResult
from ttame.benchmarking.comparisons import compare
from ttame.benchmarking.halves import half_of
from ttame.benchmarking.means import finite
from ttame.benchmarking.records import plain
from ttame.errors import ImageError, InputError, TtameError

if TYPE_CHECKING:
    from ttame.benchmarking.engine import Record
    from ttame.benchmarking.plan import PhotoSet, Plan
    from ttame.benchmarking.records import Unit
    from ttame.methods.registry import Method
    from ttame.metrics.measure import Measure, Metric

Records = Mapping["Unit", "Record"]

_MIB = 2**20


def plan_measures(plan: Plan) -> dict[str, Measure]:
    """Return the measures of all sets by name."""
    return {measure.name: measure for item in plan.sets for measure in item.measures}


def plan_metrics(plan: Plan) -> dict[str, Metric]:
    """Return the metrics of all measures by name.

    Raises:
        InputError: Two measures give a metric of the same name.
    """
    found: dict[str, Metric] = {}
    for measure in plan_measures(plan).values():
        for name, metric in measure.metrics(measure.options).items():
            if name in found:
                raise InputError(
                    f"two measures give the metric {name!r}; leave {measure.name!r} or the other "
                    "one out"
                )
            found[name] = metric
    return found


def trouble(plan: Plan, records: Records) -> dict[str, str]:
    """Return what stopped each method that was given up, the earliest in the order of photos."""
    found: dict[str, str] = {}
    for unit in plan.units():
        if "error" in records.get(unit, {}):
            found.setdefault(unit.method, ": ".join(records[unit]["error"]))
    return found


def make_result(
    plan: Plan, records: Records, conventions: Mapping[str, Any], provenance: Mapping[str, Any]
) -> BenchmarkResult:
    """Put together what was computed: values, descriptions, curves, times and comparisons.

    Args:
        plan: What was to be computed.
        records: What was.
        conventions: Under which the numbers were taken.
        provenance: Of classifier, data and versions.

    Raises:
        ImageError: No photo could be read.
    """
    table = per_image_table(plan, records)
    metrics = plan_metrics(plan)
    rivals = [method.name for method in plan.methods if not method.control]
    return BenchmarkResult(
        per_image=table,
        methods=describe_methods(plan, records),
        metrics=metrics,
        measures=describe_measures(plan),
        curves=mean_curves(plan, records),
        timings=collect_times(plan, records),
        comparisons=compare(table, rivals, metrics, plan.seed),
        conventions=conventions,
        provenance=provenance,
        broken=broken_photos(plan, records),
        seed=plan.seed,
    )


def per_image_table(plan: Plan, records: Records) -> pd.DataFrame:
    """Return one row per method and photo; a method that was given up has none.

    Raises:
        ImageError: No photo could be read.
    """
    stopped = trouble(plan, records)
    metrics = list(plan_metrics(plan))
    frames = [
        _rows(plan, photo_set, method, record)
        for method in plan.methods
        if method.name not in stopped
        for photo_set, record in _of(plan, records, method)
        if record.get("places")
    ]
    if not frames:
        if not stopped and (broken := broken_photos(plan, records)):
            raise ImageError(f"none of the {len(broken)} photos can be read; {broken[0][1]}")
        frames = [pd.DataFrame()]
    table: pd.DataFrame = pd.concat(frames, ignore_index=True).reindex(columns=[*KEYS, *metrics])
    return table


def broken_photos(plan: Plan, records: Records) -> tuple[tuple[str, str], ...]:
    """Return the photos that could not be read, and why, each once."""
    found: dict[str, str] = {}
    for photo_set in plan.sets:
        found.update(photo_set.broken)
        items = {
            int(place): message
            for unit, record in records.items()
            if unit.photo_set == photo_set.name
            for place, message in record.get("broken", [])
        }
        for place in sorted(items):
            found[str(photo_set.photos[place].path)] = str(items[place])
    return tuple(found.items())


def describe_methods(plan: Plan, records: Records) -> dict[str, dict[str, Any]]:
    """Return what the result tells about each method."""
    stopped = trouble(plan, records)
    return {
        method.name: {
            "title": method.title,
            "paper": method.paper,
            "control": method.control,
            "slow": method.slow,
            "cost": method.cost,
            "options": plain(method.options),
            "normalisation": method.normalisation,
            "detail": method.detail,
            "status": stopped.get(method.name, "ok"),
            **_told([r for _, r in _of(plan, records, method) if r.get("places")]),
        }
        for method in plan.methods
    }


def describe_measures(plan: Plan) -> dict[str, dict[str, Any]]:
    """Return what the result tells about each measure."""
    return {
        name: {
            "title": measure.title,
            "paper": measure.paper,
            "options": plain(measure.options),
            "slow": measure.slow,
            "passes": measure.passes(measure.options),
            "metrics": list(measure.metrics(measure.options)),
            "photos": [item.name for item in plan.sets if measure in item.measures],
        }
        for name, measure in plan_measures(plan).items()
    }


def mean_curves(plan: Plan, records: Records) -> dict[str, dict[str, Any]]:
    """Return every curve's mean over the photos, by name and method."""
    stopped = trouble(plan, records)
    found: dict[str, dict[str, Any]] = {}
    measures = plan_measures(plan)
    for method in plan.methods:
        if method.name in stopped:
            continue
        collected: dict[tuple[str, str], list[list[float]]] = {}
        for _, record in _of(plan, records, method):
            for measure, curves in record.get("curves", {}).items():
                for name, rows in curves.items():
                    collected.setdefault((measure, name), []).extend(rows)
        for (measure, name), rows in collected.items():
            array = np.asarray(rows, dtype=np.float64)
            array = array[~np.isnan(array).any(axis=1)]
            if not len(array):
                continue
            curve = found.setdefault(
                name,
                {
                    "measure": measure,
                    "x": _places(measures[measure], array.shape[1]),
                    "means": {},
                    "n": {},
                },
            )
            curve["means"][method.name] = [finite(value) for value in array.mean(axis=0)]
            curve["n"][method.name] = len(array)
    return found


def collect_times(plan: Plan, records: Records) -> dict[str, Any]:
    """Return what differs from run to run: times and memory.

    Returns:
        Median milliseconds per image of every method, and of every measure on it; the peak of each
        method's memory in MiB where it was measured, the highest of all processes; and the seconds
        that methods and measures took on all batches, whichever process and call scored them.
    """
    methods: dict[str, Any] = {}
    measures: dict[str, dict[str, float]] = {name: {} for name in plan_measures(plan)}
    for method in plan.methods:
        by_part: dict[str, list[tuple[float, int]]] = {}
        peaks = [0]
        for _, record in _of(plan, records, method):
            peaks.append(record.get("peak_memory") or 0)
            for name, (seconds, images) in record.get("seconds", {}).items():
                by_part.setdefault(name, []).append((seconds, images))
        for name, times in by_part.items():
            per_image = statistics.median(1000 * seconds / images for seconds, images in times)
            if name:
                measures[name][method.name] = per_image
            else:
                methods[method.name] = {
                    "ms_per_image": per_image,
                    "seconds": sum(seconds for seconds, _ in times),
                    "images": sum(images for _, images in times),
                    **({"peak_memory_mib": max(peaks) / _MIB} if max(peaks) else {}),
                }
    total = sum(
        seconds for record in records.values() for seconds, _ in record.get("seconds", {}).values()
    )
    return {"methods": methods, "measures": measures, "work_seconds": total}


def unfinished(plan: Plan, records: Records) -> list[Unit]:
    """Return the units that no record tells of, without those of methods that were given up."""
    stopped = trouble(plan, records)
    return [unit for unit in plan.units() if unit not in records and unit.method not in stopped]


def check_finished(plan: Plan, records: Records) -> None:
    """Refuse to make a result of an unfinished run.

    Raises:
        TtameError: Something is missing.
    """
    missing = unfinished(plan, records)
    if missing:
        raise TtameError(
            f"{len(missing)} pieces of work are not finished; run the same command with --resume"
        )


def _of(plan: Plan, records: Records, method: Method) -> Iterator[tuple[PhotoSet, Record]]:
    """Yield a method's records in the order of the photos."""
    sets = {item.name: item for item in plan.sets}
    for unit in plan.units():
        if unit.method == method.name and unit in records:
            yield sets[unit.photo_set], records[unit]


def _rows(plan: Plan, photo_set: PhotoSet, method: Method, record: Record) -> pd.DataFrame:
    paths = [photo_set.photos[place].path for place in record["places"]]
    names = plan.backbone.class_names
    classes = record["classes"]
    table: pd.DataFrame = pd.DataFrame(
        {
            "set": photo_set.name,
            "file": [str(path) for path in paths],
            "half": [half_of(path.name) for path in paths],
            "class_index": classes,
            "class_name": [names[index] if names else str(index) for index in classes],
            "probability": record["p"],
            "method": method.name,
            "nan_map": record["nan_maps"],
            **record["values"],
        }
    )
    return table


def _told(records: list[Record]) -> dict[str, Any]:
    """Sum up what a method's records tell beside values."""
    images = sum(len(record["places"]) for record in records)
    passes = [record["passes"] for record in records]
    problems: dict[str, str] = {}
    for record in records:
        problems = {**record["problems"], **problems}
    return {
        "photos": images,
        "nan_maps": sum(sum(record["nan_maps"]) for record in records),
        "forward_passes": sum(forward for forward, _ in passes) / images if images else None,
        "backward_passes": sum(backward for _, backward in passes) / images if images else None,
        "problems": dict(sorted(problems.items())),
        **(records[0]["details"] if records else {}),
    }


def _places(measure: Measure, count: int) -> list[float]:
    """Return where a curve's values stand: the measure's shares, or even steps from 0 to 1."""
    shares = measure.options.get("shares", ())
    if len(shares) == count:
        return [float(share) for share in shares]
    return [float(place) for place in np.linspace(0, 1, count)]
