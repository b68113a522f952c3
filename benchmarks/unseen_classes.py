"""Compare an explainer on classes whose photos it was trained on with one on classes it never saw.

Two explainers are trained with the defaults: one on the photos of even classes, one on those of odd
classes. Both are scored on the same other photos, of classes of both kinds, so that every photo is
explained once by an explainer that saw its class and once by one that did not.

python benchmarks/unseen_classes.py --data pool.csv --eval-data labels.csv --out DIR
    [--model ttame/efficientnet-lite0] [--weights FILE] [--photos N] [--images N]

The CSV of --data has the columns ``path`` (or ``file``) and ``label``, the classifier's own class
indices. What lies in DIR already is not computed again.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import pandas as pd

import ttame
from ttame.allocator import keep_freed_memory
from ttame.backbone.contract import Backbone
from ttame.benchmarking.statistics import bootstrap_interval
from ttame.images.listing import list_photos

METRICS = [f"{metric}_{share}_matched" for share in (100, 50, 15) for metric in ("ad", "ic")]
HALVES = ("even", "odd")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--eval-data", type=Path, required=True)
    parser.add_argument("--model", default="ttame/efficientnet-lite0")
    parser.add_argument("--weights", type=Path, help="the classifier's weight file")
    parser.add_argument("--photos", type=int, default=0, help="most photos of a training; 0: all")
    parser.add_argument("--images", type=int, help="photos to score on; all where not given")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    keep_freed_memory()
    backbone = ttame.load_backbone(args.model, args.weights)
    scores = [scored(place, backbone, args) for place in range(2)]
    even = scores[0]["class_index"] % 2 == 0
    seen = scores[0][METRICS].where(even, scores[1][METRICS])
    unseen = scores[1][METRICS].where(even, scores[0][METRICS])
    print(f"{len(seen)} photos\n\n| metric | class seen | class not seen | difference |")
    print("|---|---|---|---|")
    for metric in METRICS:
        difference = (unseen - seen)[metric]
        low, high = bootstrap_interval(difference.to_numpy())
        print(
            f"| {metric} | {seen[metric].mean():.1f} | {unseen[metric].mean():.1f} | "
            f"{difference.mean():+.1f} [{low:+.1f}, {high:+.1f}] |"
        )


def scored(place: int, backbone: Backbone, args: argparse.Namespace) -> pd.DataFrame:
    """Return the scores of one half's explainer, a row per photo."""
    name = HALVES[place]
    folder, results = args.out / name, args.out / f"eval-{name}"
    if not (folder / "explainer.json").exists():
        photos = [photo for photo in list_photos(args.data) if photo.label is not None]
        highest = max((photo.label for photo in photos), default=-1)
        if not 0 <= highest < backbone.num_classes:
            raise SystemExit(
                f"the labels of {args.data} must be class indices of the classifier, 0 to "
                f"{backbone.num_classes - 1}; one is {highest}"
            )
        chosen = [photo.path for photo in photos if photo.label % 2 == place]
        ttame.train(backbone, chosen, folder, train_images=args.photos, progress=False)
    if not (results / "per_image.csv").exists():
        explainer = ttame.load(folder, backbone=backbone)
        ttame.evaluate(explainer, args.eval_data, methods=[], images=args.images, out=results)
    table = pd.read_csv(results / "per_image.csv")
    return table[table["method"] == "ttame"].set_index("file")


if __name__ == "__main__":
    main()
