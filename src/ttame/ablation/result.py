"""What an ablation found: every cell's scores, and how they differ from the base's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from math import nan
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from ttame.ablation.cell import DONE, FAILED, SCORES, Outcome, read_outcome
from ttame.benchmarking.benchmark_result import BenchmarkResult, write_json
from ttame.benchmarking.means import Mean, column_means, finite, means_to_json
from ttame.errors import TtameError
from ttame.files import write_atomically

if TYPE_CHECKING:
    from rich.console import Group

    from ttame.ablation.plan import AblationPlan, CellPlan

_INTERVAL = ("mean", "low", "high")


@dataclass(frozen=True)
class CellResult:
    """One cell in the result.

    Attributes:
        outcome: How it ended.
        changes: What it sets otherwise than the shared settings do.
        described: Preset, layers and every setting.
    """

    outcome: Outcome
    changes: Mapping[str, Any]
    described: Mapping[str, Any]


@dataclass(frozen=True)
class AblationResult:
    """All cells of an ablation on the same photos.

    Attributes:
        base: Name of the cell that the others are compared with.
        cells: By name, in their order.
        scores: Every photo's values, with the cells that were scored as its methods; None where
            no cell was.
    """

    base: str
    cells: Mapping[str, CellResult]
    scores: BenchmarkResult | None

    @property
    def scored(self) -> list[str]:
        """Names of the cells that have scores, in order."""
        return [] if self.scores is None else list(self.scores.methods)

    @cached_property
    def means(self) -> dict[str, dict[str, Mean]]:
        """Mean and 95 % bootstrap interval by cell and metric; NaN where a cell has no value."""
        if self.scores is None:
            return {}
        none = Mean(nan, nan, nan, 0)
        return {
            name: {metric: found.get(metric, none) for metric in self.scores.metrics}
            for name, found in self.scores.means().items()
        }

    @cached_property
    def differences(self) -> dict[str, dict[str, Mean]]:
        """Mean difference from the base, photo by photo, with its 95 % bootstrap interval."""
        if self.scores is None or self.base not in self.scored:
            return {}
        values = {name: _by_photo(self.scores, name) for name in self.scored}
        base = values.pop(self.base)
        return {
            name: column_means(table - base, seed=self.scores.seed)
            for name, table in values.items()
        }

    def rows(self) -> pd.DataFrame:
        """Return a row per cell and metric; a cell without scores has one row without a metric."""
        rows: list[dict[str, Any]] = []
        for name, cell in self.cells.items():
            shared: dict[str, Any] = {"cell": name, "status": cell.outcome.status}
            if name not in self.means:
                rows.append(shared)
            for metric, mean in self.means.get(name, {}).items():
                difference = self.differences.get(name, {}).get(metric)
                row = {**shared, "metric": metric, **mean._asdict()}
                if difference is not None:
                    row.update(_difference(difference))
                rows.append(row)
        columns = ["cell", "status", "metric", *Mean._fields, *_difference(Mean(0, 0, 0, 0))]
        table: pd.DataFrame = pd.DataFrame(rows, columns=columns)
        return table

    def to_dict(self) -> dict[str, Any]:
        """Return the content of ``ablation.json``."""
        means, differences = means_to_json(self.means), self.differences
        scores = self.scores
        return {
            "format": 1,
            "base": self.base,
            "cells": {
                name: {
                    **asdict(cell.outcome),
                    "changes": dict(cell.changes),
                    **cell.described,
                    "scores": means.get(name, {}),
                    "differences": means_to_json({name: differences.get(name, {})})[name],
                }
                for name, cell in self.cells.items()
            },
            "conventions": {} if scores is None else dict(scores.conventions),
            **({} if scores is None else scores.provenance),
            "broken": [
                {"file": file, "reason": reason}
                for file, reason in (() if scores is None else scores.broken)
            ],
        }

    def save(self, folder: str | Path) -> Path:
        """Write ``ablation.csv``, ``.md``, ``.png`` and ``.json``, each whole or not at all.

        Raises:
            StorageError: The folder cannot be written.
        """
        from ttame.ablation.plot import write_plot
        from ttame.ablation.table import markdown

        folder = Path(folder)
        table = self.rows().to_csv(index=False).encode("utf-8")
        write_atomically(folder / "ablation.csv", lambda file: file.write(table))
        text = markdown(self).encode("utf-8")
        write_atomically(folder / "ablation.md", lambda file: file.write(text))
        write_plot(self, folder / "ablation.png")
        write_json(folder / "ablation.json", self.to_dict())
        return folder

    def table(self) -> Group:
        """Return a table for the terminal; see :func:`ttame.ablation.table.make_table`."""
        from ttame.ablation.table import make_table

        return make_table(self)


def collect(plan: AblationPlan) -> AblationResult:
    """Read what every cell left in its folder."""
    cells, scored = {}, {}
    for cell in plan.cells:
        name = cell.cell.name
        outcome = read_outcome(cell.folder) or Outcome(FAILED, "it was not run")
        if outcome.status != FAILED:
            try:
                scored[name] = BenchmarkResult.load(cell.folder / SCORES)
            except TtameError as error:
                outcome = Outcome(FAILED, str(error))
        cells[name] = CellResult(outcome, _plain(cell), cell.describe())
    return AblationResult(plan.cells[0].cell.name, cells, _together(cells, scored))


def _together(
    cells: Mapping[str, CellResult], scored: Mapping[str, BenchmarkResult]
) -> BenchmarkResult | None:
    """Join scores of one method each; the cells become the methods."""
    if not scored:
        return None
    tables = [found.per_image.assign(method=name) for name, found in scored.items()]
    details = {
        # A collapsed cell is told apart as controls are: its scores win nothing.
        name: {"title": name, "control": cells[name].outcome.status != DONE}
        for name in scored
    }
    first = next(iter(scored.values()))
    return replace(
        first,
        per_image=pd.concat(tables, ignore_index=True),
        methods=details,
        comparisons={},
        timings={},
    )


def _by_photo(scores: BenchmarkResult, name: str) -> pd.DataFrame:
    files = scores.per_image.loc[scores.per_image["method"] == name, "file"]
    values = scores.values(name).set_axis(files)
    # A list may name a photo twice.
    unique: pd.DataFrame = values[~values.index.duplicated()]
    return unique


def _difference(mean: Mean) -> dict[str, float | None]:
    return {
        "difference" if name == "mean" else f"difference_{name}": finite(getattr(mean, name))
        for name in _INTERVAL
    }


def _plain(plan: CellPlan) -> dict[str, Any]:
    return {
        key: list(value) if isinstance(value, tuple) else value
        for key, value in plan.cell.changes.items()
    }
