"""A made-up benchmark result for the report's tests."""

from __future__ import annotations

import numpy as np
import pandas as pd

from ttame.benchmarking.benchmark_result import BenchmarkResult
from ttame.benchmarking.comparisons import compare
from ttame.metrics.measure import Metric

METHODS = {
    "ttame": "T-TAME",
    "gradcam": "Grad-CAM",
    "rise": "RISE",
    "random": "Random",
}
METRICS = {
    "ad_50": Metric("AD 50 %", False, "%"),
    "ad_50_matched": Metric("AD 50 %, area-matched", False, "%"),
    "mask_area": Metric("mask area", None),
    "road_morf": Metric("ROAD MoRF", False, "%"),
    "srg": Metric("SRG", True),
}
LEVELS = {"ttame": 0.0, "gradcam": 10.0, "rise": 1.2, "random": 30.0}


def made_result(
    methods=None,
    metrics=None,
    photos=12,
    impossible=None,
    curves=True,
    timings=True,
    seed=0,
    **changes,
):
    """Return a result: T-TAME first, RISE close to it, Grad-CAM far, random farthest."""
    methods = METHODS if methods is None else methods
    metrics = METRICS if metrics is None else metrics
    impossible = impossible or {}
    generator = np.random.default_rng(seed)
    base = generator.uniform(20, 40, (photos, len(metrics)))
    rows = []
    for name in methods:
        if name in impossible:
            continue
        for index in range(photos):
            row = {
                "set": "photos",
                "file": f"photo-{index:02d}.png",
                "half": "choosing" if index % 2 else "reporting",
                "class_index": index % 3,
                "class_name": f"class {index % 3}",
                "probability": 0.9,
                "method": name,
                "nan_map": False,
            }
            for place, (metric, kind) in enumerate(metrics.items()):
                sign = -1 if kind.higher_is_better else 1
                noise = generator.normal(0, 2)
                row[metric] = base[index, place] + sign * (LEVELS.get(name, 20.0) + noise)
            rows.append(row)
    table = pd.DataFrame(rows)
    details = {
        name: {
            "title": title,
            "paper": f"Paper of {name}",
            "control": name == "random",
            "slow": name == "rise",
            "cost": "1 forward, 1 backward",
            "options": {"cells": 7},
            "status": impossible.get(name, "ok"),
            "forward_passes": None if name in impossible else 1 + 10 * place,
            "backward_passes": None if name in impossible else place,
            "layer": "blocks.3",
        }
        for place, (name, title) in enumerate(methods.items())
    }
    done = [name for name in methods if name not in impossible]
    rivals = [name for name in done if name != "random"]
    content = {
        "per_image": table,
        "methods": details,
        "metrics": metrics,
        "measures": {"road": {"title": "ROAD", "options": {"shares": [0.1, 0.5]}}},
        "curves": {
            f"road_{order}": {
                "measure": "road",
                "x": [0.1, 0.5, 0.9],
                "means": {name: [0.9, 0.5, None] for name in done},
                "n": dict.fromkeys(done, photos),
            }
            for order in ("morf", "lerf")
        }
        if curves
        else {},
        "timings": {
            "methods": {name: {"ms_per_image": 3.5, "peak_memory_mib": 12.25} for name in done},
            "measures": {"road": dict.fromkeys(done, 41.75)},
        }
        if timings
        else {},
        "comparisons": compare(table, rivals, metrics, seed),
        "conventions": {"fill": "black", "nan_maps": "count as zeros"},
        "provenance": {
            "classifier": {"name": "tiny", "source": "module", "fingerprint": "abc123"},
            "data": {"digest": "sha256:77", "photos": photos},
            "versions": {"ttame": "0.1.0", "torch": "2.6"},
            "command": "ttame benchmark --data photos",
        },
        "seed": seed,
    }
    return BenchmarkResult(**{**content, **changes})
