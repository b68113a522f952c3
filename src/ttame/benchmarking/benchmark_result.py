"""What a benchmark returns and leaves in its folder: values, means, curves, comparisons, times."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from ttame.benchmarking.comparisons import compare
from ttame.benchmarking.halves import HALVES, half_of
from ttame.benchmarking.means import (
    Mean,
    column_means,
    means_to_json,
    method_values,
    summary_table,
)
from ttame.errors import InputError, StorageError, unknown_name
from ttame.files import write_atomically
from ttame.metrics.measure import Metric

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Group

FORMAT = 1
KEYS = (*("set", "file", "half", "class_index", "class_name", "probability", "method", "nan_map"),)
"""Columns of the per-image table that are no metrics."""


@dataclass(frozen=True)
class BenchmarkResult:
    """Scores of several methods on the same photos, with all that is needed to read them.

    Attributes:
        per_image: One row per method and photo: ``set`` (``"photos"``, or ``"marked"`` for the
            photos with marked objects), ``file``, ``half`` (``"choosing"`` or ``"reporting"``),
            ``class_index``, ``class_name``, ``probability`` (of that class on the full photo),
            ``method``, ``nan_map`` (the map held NaN and counted as zeros) and one column per
            metric; NaN where a photo has no value.
        methods: By name, in the order of the tables: ``title``, ``paper``, ``control``, ``slow``,
            ``cost``, ``options``, ``status`` (``"ok"``, ``"not possible: ..."``,
            ``"failed: ..."``), ``nan_maps``, ``forward_passes`` and ``backward_passes`` per image
            (None where they were not counted), ``problems`` (by measure, why it gave no values)
            and what the method itself tells, such as its layer.
        metrics: Title, direction and unit of every metric column.
        measures: By name: ``title``, ``paper``, ``options``, ``slow``, ``metrics``.
        curves: By name: ``measure``, ``x``, ``means`` (method -> list) and ``n``
            (method -> photos).
        timings: What the clock said, and the peaks of memory; never quite the same twice.
        comparisons: See :func:`ttame.benchmarking.comparisons.compare`.
        conventions: Under which conventions the numbers were taken.
        provenance: ``classifier``, ``data`` and ``versions``; of a benchmark also ``command``,
            ``settings`` and ``left_out``, methods and measures that a run of all could not take,
            with the reason.
        broken: Files that could not be read, and why.
        seed: Seed of order, ties, bootstrap and permutations.
    """

    per_image: pd.DataFrame
    methods: Mapping[str, Mapping[str, Any]]
    metrics: Mapping[str, Metric]
    measures: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    curves: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    timings: dict[str, Any] = field(default_factory=dict)
    comparisons: Mapping[str, Any] = field(default_factory=dict)
    conventions: Mapping[str, Any] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)
    broken: tuple[tuple[str, str], ...] = ()
    seed: int = 0

    def values(self, method: str) -> pd.DataFrame:
        """Return one method's metric columns, a row per photo.

        Raises:
            UnknownNameError: The method took no part.
        """
        return method_values(self.per_image, method, self.methods, list(self.metrics))

    def means(self, level: float = 0.95, resamples: int = 2000) -> dict[str, dict[str, Mean]]:
        """Return mean and bootstrap interval by method and metric.

        Args:
            level: Coverage of the interval.
            resamples: How often the photos are drawn with replacement.

        Returns:
            Only metrics that the method has a value of; empty for a method that was not possible.
        """
        if (level, resamples) == (0.95, 2000):
            return self._means
        return self._method_means(level, resamples)

    def of_half(self, half: str) -> BenchmarkResult:
        """Return the result on the photos of one half: values, means, tables and comparisons.

        Of a run with all photos: choose on the one half, publish the other. Curves are means over
        all photos and are left out; costs, times and troubles of ``methods`` are those of the
        whole run.

        Raises:
            UnknownNameError: ``half`` is neither ``"choosing"`` nor ``"reporting"``.
            InputError: No photo belongs to it.
        """
        if half not in HALVES:
            raise unknown_name("half", half, HALVES)
        table = self.per_image[self.per_image["half"] == half].reset_index(drop=True)
        if table.empty:
            raise InputError(f"none of the photos belongs to the {half} half; score more photos")
        rivals = [name for name, details in self.methods.items() if not details.get("control")]
        compared = compare(table, rivals, self.metrics, self.seed)
        settings = {**self.provenance.get("settings", {}), "half": half}
        return replace(
            self,
            per_image=table,
            comparisons=compared,
            curves={},
            provenance={**self.provenance, "settings": settings},
            broken=tuple(item for item in self.broken if half_of(Path(item[0]).name) == half),
        )

    def summary(self) -> pd.DataFrame:
        """Return :meth:`means` as a table.

        Returns:
            Columns ``mean``, ``low``, ``high``, ``n``; rows indexed by ``method`` and ``metric``.
        """
        return summary_table(self.means())

    def to_dict(self) -> dict[str, Any]:
        """Return the content of ``results.json``: everything but single values and times."""
        return {
            "format": FORMAT,
            "methods": means_to_json(self.means()),
            "details": {name: dict(details) for name, details in self.methods.items()},
            "metrics": {name: metric._asdict() for name, metric in self.metrics.items()},
            "measures": {name: dict(details) for name, details in self.measures.items()},
            "conventions": dict(self.conventions),
            **self.provenance,
            "seed": self.seed,
            "broken": [{"file": file, "reason": reason} for file, reason in self.broken],
        }

    def save(self, folder: str | Path) -> Path:
        """Write the result's files, each completely or not at all.

        ``per_image.csv``, ``curves.json``, ``comparisons.json``, ``timings.json``, and
        ``results.json`` last: where it stands, the result is complete.

        Raises:
            StorageError: The folder cannot be written.
        """
        folder = Path(folder)
        table = self.per_image.to_csv(index=False).encode("utf-8", "surrogateescape")
        write_atomically(folder / "per_image.csv", lambda file: file.write(table))
        for name in ("curves", "comparisons", "timings"):
            write_json(folder / f"{name}.json", getattr(self, name))
        write_json(folder / "results.json", self.to_dict())
        return folder

    @classmethod
    def load(cls, folder: str | Path) -> BenchmarkResult:
        """Read what :meth:`save` wrote.

        Raises:
            InputError: The folder holds no finished scores.
            StorageError: A file is damaged or of another version.
        """
        folder = Path(folder)
        if not (folder / "results.json").is_file():
            raise InputError(
                f"expected a folder with finished scores, but {folder} has no results.json; run "
                "`ttame evaluate --out`, or `ttame benchmark --out` (with --resume if it was cut "
                "off)"
            )
        results = _read_json(folder / "results.json")
        try:
            if results.pop("format") != FORMAT or "metrics" not in results:
                raise StorageError(f"{folder} was written by another version; run it again")
            metrics = {name: Metric(**values) for name, values in results.pop("metrics").items()}
            results.pop("methods")
            parts: dict[str, Any] = {
                "methods": results.pop("details"),
                "measures": results.pop("measures"),
                "conventions": results.pop("conventions"),
                "seed": results.pop("seed"),
                "broken": tuple((item["file"], item["reason"]) for item in results.pop("broken")),
            }
        except (KeyError, TypeError, AttributeError) as error:
            raise StorageError(
                f"{folder / 'results.json'} is no benchmark's result ({error!r}); run it again"
            ) from error
        others: dict[str, Any] = {
            name: _read_json(folder / f"{name}.json")
            for name in ("curves", "comparisons", "timings")
        }
        table = read_table(folder / "per_image.csv", list(metrics))
        return cls(per_image=table, metrics=metrics, provenance=results, **parts, **others)

    def table(self, metrics: Sequence[str] | None = None, width: int | None = None) -> Group:
        """Return tables for the terminal; see :mod:`ttame.benchmarking.benchmark_table`."""
        from ttame.benchmarking.benchmark_table import make_tables

        return make_tables(self, metrics, width)

    def markdown(self, metrics: Sequence[str], *, intervals: bool = False) -> str:
        """Return a table for a page; see :func:`ttame.benchmarking.markdown.markdown_table`."""
        from ttame.benchmarking.markdown import markdown_table

        return markdown_table(self, metrics, intervals=intervals)

    @cached_property
    def _means(self) -> dict[str, dict[str, Mean]]:
        return self._method_means(0.95, 2000)

    def _method_means(self, level: float, resamples: int) -> dict[str, dict[str, Mean]]:
        return {
            method: {
                metric: mean
                for metric, mean in column_means(
                    self.values(method), level, resamples, self.seed
                ).items()
                if mean.n
            }
            for method in self.methods
        }


def write_json(path: Path, content: Any) -> Path:
    """Write JSON that every reader understands, completely or not at all.

    Raises:
        StorageError: The place cannot be written.
    """
    text = json.dumps(content, indent=2, allow_nan=False).encode()
    return write_atomically(path, lambda file: file.write(text))


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise StorageError(f"cannot read {path}: {error}; run the benchmark again") from error
    if not isinstance(content, dict):
        raise StorageError(f"{path} is no benchmark's file; run the benchmark again")
    return content


def read_table(path: Path, metrics: Sequence[str]) -> pd.DataFrame:
    """Read a table of every image's values, exactly as they were written.

    Raises:
        StorageError: The file is missing, damaged, or lacks a column.
    """
    try:
        # As text, because only numbers may be missing: a class may well be called "null".
        table: pd.DataFrame = pd.read_csv(
            path, dtype=str, keep_default_na=False, encoding_errors="surrogateescape"
        )
        for name in ("probability", *metrics):
            table[name] = [float(text or "nan") for text in table[name]]
        table["class_index"] = [int(text) for text in table["class_index"]]
        table["nan_map"] = [text == "True" for text in table["nan_map"]]
    except (OSError, ValueError, KeyError) as error:
        raise StorageError(f"cannot read {path}: {error}; run the benchmark again") from error
    return table
