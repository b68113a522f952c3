"""Plot quality against the number of training photos, from the results of an ablation.

The cells that change ``train_images`` alone, and the untrained one (a learning rate of nearly 0),
are drawn: area-matched average drop with its 95 % interval, and the minutes of each training.

ttame ablate --config examples/faithfulness.yaml --data PHOTOS --eval-data OTHER --out DIR
python benchmarks/photo_curve.py DIR/ablation.json curve.png
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

UNTRAINED = 1e-9


def points(result: dict[str, Any]) -> list[tuple[int, float, dict[str, Any]]]:
    """Return photos, minutes and scores of each cell of the curve; 0 photos for the untrained."""
    found = []
    for cell in result["cells"].values():
        changed = set(cell["changes"])
        if cell["status"] != "done" or not changed <= {"train_images", "lr"}:
            continue
        trained = cell["config"]["lr"] > UNTRAINED
        if trained and "lr" in changed:
            continue
        photos = cell["config"]["train_images"] if trained else 0
        found.append((photos, cell["seconds"] / 60 if trained else 0.0, cell["scores"]))
    return sorted(found, key=lambda point: point[0])


def main() -> None:
    from matplotlib.figure import Figure

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("result", type=Path)
    parser.add_argument("picture", type=Path)
    args = parser.parse_args()
    curve = points(json.loads(args.result.read_text(encoding="utf-8")))
    figure = Figure(figsize=(8, 3.2), layout="constrained", dpi=110)
    axes = figure.subplots(1, 4)
    places = range(len(curve))
    labels = [f"{photos:,}" if photos else "start" for photos, _, _ in curve]
    for axis, share in zip(axes, (100, 50, 15), strict=False):
        scores = [values[f"ad_{share}_matched"] for _, _, values in curve]
        means = [score["mean"] for score in scores]
        spread = [
            [score["mean"] - score["low"] for score in scores],
            [score["high"] - score["mean"] for score in scores],
        ]
        axis.errorbar(places, means, spread, marker="o", capsize=2, color="#2a6f97")
        axis.set_title(f"AD {share} %, matched")
        print(f"AD {share}:", ", ".join(f"{x} {m:.1f}" for x, m in zip(labels, means, strict=True)))
    axes[3].bar(places, [minutes for _, minutes, _ in curve], color="#a9c6d9")
    axes[3].set_title("minutes of training")
    print("minutes:", ", ".join(f"{minutes:.1f}" for _, minutes, _ in curve))
    for axis in axes:
        axis.set_xticks(places, labels, rotation=60, ha="right")
        axis.set_xlabel("photos")
    figure.savefig(args.picture)


if __name__ == "__main__":
    main()
