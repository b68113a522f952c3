"""Draw where an explanation fails: photo, map, and the half of the photo that it would keep.

Worst photos stand in the per_image.csv of ``ttame evaluate``, by the column ad_50_matched.

python benchmarks/failures.py PHOTO [PHOTO ...] [--explainer FOLDER] [--out PICTURE]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from torchvision.transforms.functional import to_pil_image

import ttame
from ttame.masking import resize
from ttame.metrics.shares import area_matched, cut_to_shares
from ttame.pictures import contact_sheet

SHARE = 0.5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("photos", nargs="+", type=Path)
    parser.add_argument("--explainer", type=Path)
    parser.add_argument("--out", type=Path, default=Path("docs/images/failures.jpg"))
    args = parser.parse_args()
    explainer = ttame.load(args.explainer)
    explanation = explainer.explain(args.photos)
    pixels = explanation.pixels
    full = resize(explanation.masks, (pixels.shape[2], pixels.shape[3]))[:, 0]
    kept = cut_to_shares(area_matched(full, list(range(len(full)))), [SHARE])
    masked = pixels * kept
    with torch.no_grad():
        logits = explainer.backbone.logits(explainer.backbone.preprocessing.normalise(masked))
    left = logits.softmax(dim=1).gather(1, explanation.classes)[:, 0]
    sheet, titles = [], []
    for place in range(len(pixels)):
        sheet.append(
            [to_pil_image(pixels[place]), explanation.overlay(place), to_pil_image(masked[place])]
        )
        before = f"{explanation.label(place, 0)}  {explanation.probability(place, 0):.0%}"
        titles.append(["photo", before, f"the half that is kept  {float(left[place]):.0%}"])
    columns = [list(row) for row in zip(*sheet, strict=True)]
    contact_sheet(columns, [list(row) for row in zip(*titles, strict=True)], side=224).save(
        args.out, optimize=True
    )


if __name__ == "__main__":
    main()
