"""What an evaluation returns: every image's scores, their means, and the files they go to."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from ttame.benchmarking.benchmark_result import read_table
from ttame.benchmarking.means import (
    Mean,
    column_means,
    means_to_json,
    method_values,
    summary_table,
)
from ttame.errors import StorageError
from ttame.files import write_atomically

if TYPE_CHECKING:
    from rich.table import Table

# Columns of the per-image table that are no metrics.
_KEYS = ("file", "class_index", "class_name", "probability", "method", "nan_map")


@dataclass(frozen=True)
class Evaluation:
    """Scores of several methods on the same photos.

    Attributes:
        per_image: One row per method and photo: ``file``, ``class_index``, ``class_name``,
            ``probability`` (of that class on the full photo, in [0, 1]), ``method``, one column per
            metric (``ad_100``, ``ic_100``, ..., ``ag_15_matched`` in percent, ``mask_area`` in
            [0, 1]) and ``nan_map`` (the map held NaN and counted as zeros).
        methods: Title, paper and details of each method by name, the explainer first.
        broken: Files that could not be read, and why.
        seed: Seed of ties, drawn photos and bootstrap.
        conventions: Under which conventions the numbers were taken.
        provenance: Classifier, data digest and versions.
    """

    per_image: pd.DataFrame
    methods: Mapping[str, Mapping[str, Any]]
    broken: tuple[tuple[str, str], ...] = ()
    seed: int = 0
    conventions: Mapping[str, Any] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)

    @property
    def metrics(self) -> list[str]:
        """Names of the metric columns, in order."""
        return [column for column in self.per_image.columns if column not in _KEYS]

    def values(self, method: str) -> pd.DataFrame:
        """Return one method's metric columns, a row per photo.

        Raises:
            UnknownNameError: The method was not evaluated.
        """
        return method_values(self.per_image, method, self.methods, self.metrics)

    def means(self, level: float = 0.95, resamples: int = 2000) -> dict[str, dict[str, Mean]]:
        """Return mean and bootstrap interval by method and metric.

        Images whose value is NaN (the classifier itself gave NaN) are left out, and ``n`` tells.
        """
        return {
            method: column_means(self.values(method), level, resamples, self.seed)
            for method in self.methods
        }

    def summary(self, level: float = 0.95, resamples: int = 2000) -> pd.DataFrame:
        """Return :meth:`means` as a table.

        Returns:
            Columns ``mean``, ``low``, ``high``, ``n``; rows indexed by ``method`` and ``metric``.
        """
        return summary_table(self.means(level, resamples))

    def to_dict(self) -> dict[str, Any]:
        """Return the content of ``results.json``: scores, details, conventions, provenance."""
        flags = self.per_image["nan_map"].groupby(self.per_image["method"]).sum()
        return {
            "format": 1,
            "methods": means_to_json(self.means()),
            "details": {
                method: {**details, "nan_maps": int(flags[method])}
                for method, details in self.methods.items()
            },
            "conventions": {
                **self.conventions,
                "interval": "95 % percentile bootstrap over images, 2000 resamples",
            },
            **self.provenance,
            "seed": self.seed,
            "broken": [{"file": file, "reason": reason} for file, reason in self.broken],
        }

    def save(self, folder: str | Path) -> Path:
        """Write ``per_image.csv`` and ``results.json``, each completely or not at all.

        Raises:
            StorageError: The folder cannot be written.
        """
        folder = Path(folder)
        table = self.per_image.to_csv(index=False).encode("utf-8", "surrogateescape")
        write_atomically(folder / "per_image.csv", lambda file: file.write(table))
        text = json.dumps(self.to_dict(), indent=2, allow_nan=False).encode()
        write_atomically(folder / "results.json", lambda file: file.write(text))
        return folder

    @classmethod
    def load(cls, folder: str | Path) -> Evaluation:
        """Read what :meth:`save` wrote.

        Raises:
            StorageError: A file is missing, damaged or of another version.
        """
        path = Path(folder) / "results.json"
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            if content.pop("format") != 1:
                raise StorageError(f"{folder} was written by another version; run it again")
            metrics = list(next(iter(content.pop("methods").values())))
            parts: dict[str, Any] = {
                "methods": content.pop("details"),
                "conventions": content.pop("conventions"),
                "seed": content.pop("seed"),
                "broken": tuple((item["file"], item["reason"]) for item in content.pop("broken")),
            }
        except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
            raise StorageError(f"{path} is no evaluation's result ({error!r})") from error
        table = read_table(Path(folder) / "per_image.csv", metrics)
        return cls(per_image=table, provenance=content, **parts)

    def table(self, scores: Sequence[str] = ("ad", "ic"), heading: str = "method") -> Table:
        """Return a table for the terminal; see :func:`ttame.benchmarking.table.make_table`."""
        from ttame.benchmarking.table import make_table

        return make_table(self, scores, heading)
