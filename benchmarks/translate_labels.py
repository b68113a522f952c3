"""Translate a CSV's ImageNet-1k class indices into those of a classifier that knows some of them.

Classes are matched by name; rows of classes that the classifier does not know are left out. Paths
become absolute, all other columns stay.

python benchmarks/translate_labels.py IN.csv OUT.csv --model timm/NAME [--weights FILE]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import pandas as pd

import ttame
from ttame.images.listfiles import LABEL_COLUMNS, PATH_COLUMNS
from ttame.metrics.transfer import judge_columns

IMAGENET = "ttame/efficientnet-lite0"  # its classes are in ImageNet's order
LABELS = LABEL_COLUMNS[::-1]  # that of ImageNet first


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("given", type=Path)
    parser.add_argument("written", type=Path)
    parser.add_argument("--model", required=True)
    parser.add_argument("--weights", type=Path)
    args = parser.parse_args()
    backbone = ttame.load_backbone(args.model, args.weights)
    own = enumerate(judge_columns(ttame.load_backbone(IMAGENET), backbone))
    known = {index: place for index, place in own if place is not None}
    table = pd.read_csv(args.given)
    label = next((name for name in LABELS if name in table), None)
    path = next((name for name in PATH_COLUMNS if name in table), None)
    if label is None or path is None:
        raise SystemExit(
            f"{args.given} needs a column {LABELS[0]} and one of {', '.join(PATH_COLUMNS)}"
        )
    table = table[table[label].isin(known)].drop(columns=set(LABELS) - {label}, errors="ignore")
    table = table.assign(
        **{
            label: [known[int(index)] for index in table[label]],
            path: [(args.given.parent / file).resolve() for file in table[path]],
        }
    ).rename(columns={label: "label"})
    table.to_csv(args.written, index=False)
    print(f"{len(table)} rows of {table['label'].nunique()} classes")


if __name__ == "__main__":
    main()
