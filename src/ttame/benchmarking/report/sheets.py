"""The report's two contact sheets: photos chosen by the seed, and the explainer's worst ones."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np
import torch

from ttame.benchmarking.means import best_of, check_metrics
from ttame.benchmarking.plan import MARKED, OWN
from ttame.benchmarking.report.contact import Sheet, contact_sheet
from ttame.benchmarking.report.worst import Worst, worst_cases
from ttame.images.boxes import squashed
from ttame.images.dataset import PhotoDataset, Sample
from ttame.images.listing import Photo

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor

    from ttame.backbone.contract import Backbone
    from ttame.benchmarking.benchmark_result import BenchmarkResult
    from ttame.images.preprocessing import Preprocessing
    from ttame.methods.registry import Method

WORST_METRIC = "ad_50_matched"

# Sets of photos that can be shown, the first one that there is, with the way to the input.
_TO_INPUT: Mapping[str, Callable[[Preprocessing], Preprocessing]] = MappingProxyType(
    {"photos": lambda preprocessing: preprocessing, MARKED: squashed}
)


def make_sheets(
    result: BenchmarkResult,
    backbone: Backbone,
    methods: Sequence[Method],
    count: int = 6,
    worst: int = 3,
    metric: str | None = None,
    held: Sequence[Photo] = (),
    progress: Callable[[int, int], object] | None = None,
) -> tuple[Sheet, Sheet]:
    """Explain a few of a result's photos again, for the report; marked ones where it has no others.

    Args:
        result: With the photos' paths and the explained classes.
        backbone: The classifier that was benchmarked.
        methods: Of the result; those that were not possible are left out.
        count: Photos of the first sheet, drawn with the result's seed.
        worst: Photos of either kind on the second sheet, see
            :func:`ttame.benchmarking.report.worst.worst_cases`; of the best method where the
            explainer takes no part.
        metric: Of the worst cases; None takes ``ad_50_matched``, or the first with a direction.
        held: The photos, where they are no files.
        progress: Called with the numbers of explanations done and in total.

    Returns:
        The two sheets; photos that cannot be read any more are left out. A photo with several
        marked classes is shown for the first of them.

    Raises:
        UnknownNameError: The result has no such metric.
    """
    chosen = [method for method in methods if _done(result, method.name)]
    name = next((name for name in _TO_INPUT if (result.per_image["set"] == name).any()), "photos")
    table = result.per_image[result.per_image["set"] == name]
    photos = table.drop_duplicates("file").set_index("file")
    files = photos.index.to_numpy()
    generator = np.random.default_rng(result.seed)
    drawn = sorted(generator.permutation(len(files))[:count].tolist())
    kinds = [
        [Worst(str(files[place]), "") for place in drawn],
        _worst(result, table, worst, metric),
    ]
    known = {str(photo.path): photo for photo in held}
    dataset = PhotoDataset(
        [known.get(case.file, Photo(Path(case.file))) for cases in kinds for case in cases],
        _TO_INPUT[name](backbone.preprocessing),
    )
    items = [dataset[place] for place in range(len(dataset))]
    read = [item.pixels if isinstance(item, Sample) else None for item in items]
    total = len(chosen) * sum(pixels is not None for pixels in read)
    done = itertools.count(1)

    def each() -> None:
        if progress is not None:
            progress(next(done), total)

    usual, cases = kinds
    split = len(usual)
    return (
        _sheet(usual, read[:split], photos, backbone, chosen, each),
        _sheet(cases, read[split:], photos, backbone, chosen, each),
    )


def _done(result: BenchmarkResult, method: str) -> bool:
    return result.methods.get(method, {}).get("status") == "ok"


def _worst(
    result: BenchmarkResult, table: pd.DataFrame, count: int, metric: str | None
) -> list[Worst]:
    means = result.means()
    rivals = [name for name, told in result.methods.items() if not told.get("control")]
    if metric is None:
        scored = table[table["method"].isin([OWN] if OWN in rivals else rivals)]
        directed = [
            name
            for name, kind in result.metrics.items()
            if kind.higher_is_better is not None and bool(scored[name].notna().any())
        ]
        metric = WORST_METRIC if WORST_METRIC in directed else next(iter(directed), None)
    if metric is None:
        return []
    check_metrics([metric], result.metrics)
    higher = result.metrics[metric].higher_is_better
    if higher is None:
        return []
    scores = {name: means[name][metric] for name in rivals if metric in means.get(name, {})}
    scores = {name: mean for name, mean in scores.items() if math.isfinite(mean.mean)}
    subject = OWN if OWN in rivals else best_of(scores, higher)
    if subject not in scores:
        return []
    others = {name: mean for name, mean in scores.items() if name != subject}
    return worst_cases(table, subject, metric, higher, best_of(others, higher), count)


def _sheet(
    cases: Sequence[Worst],
    pixels: Sequence[Tensor | None],
    photos: pd.DataFrame,
    backbone: Backbone,
    methods: Sequence[Method],
    each: Callable[[], object],
) -> Sheet:
    read = [(case, photo) for case, photo in zip(cases, pixels, strict=True) if photo is not None]
    if not read:
        return Sheet(())
    device = next(backbone.parameters(), torch.zeros(0)).device
    rows = photos.loc[[case.file for case, _ in read]]
    return contact_sheet(
        backbone,
        methods,
        torch.stack([photo for _, photo in read]).to(device),
        torch.tensor(rows["class_index"].to_numpy(dtype=np.int64), device=device),
        [
            f"{name}  {p:.1%}"
            for name, p in zip(rows["class_name"], rows["probability"], strict=True)
        ],
        [", ".join(filter(None, (Path(case.file).name, case.note))) for case, _ in read],
        each,
    )
