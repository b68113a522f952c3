"""The report's two contact sheets: photos chosen by the seed, and the explainer's worst ones."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from ttame.benchmarking.means import best_of
from ttame.benchmarking.plan import OWN
from ttame.benchmarking.report.contact import Sheet, contact_sheet
from ttame.benchmarking.report.worst import Worst, worst_cases
from ttame.images.dataset import PhotoDataset, Sample
from ttame.images.listing import Photo

if TYPE_CHECKING:
    import pandas as pd

    from ttame.backbone.contract import Backbone
    from ttame.benchmarking.benchmark_result import BenchmarkResult
    from ttame.methods.registry import Method

WORST_METRIC = "ad_50_matched"


def make_sheets(
    result: BenchmarkResult,
    backbone: Backbone,
    methods: Sequence[Method],
    count: int = 6,
    worst: int = 3,
    metric: str | None = None,
    held: Sequence[Photo] = (),
) -> tuple[Sheet, Sheet]:
    """Explain a few of a result's photos again, for the report.

    Args:
        result: With the photos' paths and the explained classes.
        backbone: The classifier that was benchmarked.
        methods: Of the result; those that were not possible are left out.
        count: Photos of the first sheet, drawn with the result's seed.
        worst: Photos of either kind on the second sheet, see
            :func:`ttame.benchmarking.report.worst.worst_cases`.
        metric: Of the worst cases; None takes ``ad_50_matched``, or the first metric with a
            direction.
        held: The photos, where they are no files.

    Returns:
        The two sheets; photos that cannot be read any more are left out.
    """
    chosen = [method for method in methods if _done(result, method.name)]
    photos = _photos(result.per_image)
    files = photos.index.to_numpy()
    generator = np.random.default_rng(result.seed)
    drawn = sorted(generator.permutation(len(files))[:count].tolist())
    usual = [Worst(str(files[place]), "") for place in drawn]
    cases = _worst(result, worst, metric)
    return (
        _sheet(usual, photos, backbone, chosen, held),
        _sheet(cases, photos, backbone, chosen, held),
    )


def _done(result: BenchmarkResult, method: str) -> bool:
    return result.methods.get(method, {}).get("status") == "ok"


def _photos(table: pd.DataFrame) -> pd.DataFrame:
    rows = table[table["set"] == "photos"]
    photos: pd.DataFrame = rows.drop_duplicates("file").set_index("file")
    return photos


def _worst(result: BenchmarkResult, count: int, metric: str | None) -> list[Worst]:
    table = result.per_image[result.per_image["set"] == "photos"]
    if metric is None:
        own = table[table["method"] == OWN]
        directed = [
            name
            for name, kind in result.metrics.items()
            if kind.higher_is_better is not None and bool(own[name].notna().any())
        ]
        metric = WORST_METRIC if WORST_METRIC in directed else next(iter(directed), None)
    means = result.means()
    if metric is None or metric not in means.get(OWN, {}):
        return []
    higher = bool(result.metrics[metric].higher_is_better)
    rivals = {
        name: means[name][metric]
        for name, details in result.methods.items()
        if name != OWN and not details.get("control") and metric in means[name]
    }
    rivals = {name: mean for name, mean in rivals.items() if math.isfinite(mean.mean)}
    return worst_cases(table, OWN, metric, higher, best_of(rivals, higher), count)


def _sheet(
    cases: Sequence[Worst],
    photos: pd.DataFrame,
    backbone: Backbone,
    methods: Sequence[Method],
    held: Sequence[Photo],
) -> Sheet:
    known = {str(photo.path): photo for photo in held}
    files = [known.get(case.file, Photo(Path(case.file))) for case in cases]
    dataset = PhotoDataset(files, backbone.preprocessing)
    read = [
        (case, item.pixels)
        for case, item in zip(cases, map(dataset.__getitem__, range(len(cases))), strict=True)
        if isinstance(item, Sample)
    ]
    if not read:
        return Sheet(())
    device = next(backbone.parameters(), torch.zeros(0)).device
    rows = photos.loc[[case.file for case, _ in read]]
    return contact_sheet(
        backbone,
        methods,
        torch.stack([pixels for _, pixels in read]).to(device),
        torch.tensor(rows["class_index"].to_numpy(dtype=np.int64), device=device),
        [
            f"{name}  {p:.1%}"
            for name, p in zip(rows["class_name"], rows["probability"], strict=True)
        ],
        [", ".join(filter(None, (Path(case.file).name, case.note))) for case, _ in read],
    )
