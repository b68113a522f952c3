"""Explain photos with the default explainer and save the pictures.

python examples/explain_photo.py [PHOTO ...] [--classes top2] [--out explained]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import ttame


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("photos", nargs="*", type=Path, default=ttame.sample_photos()[:2])
    parser.add_argument("--classes", default="top2", help="top2, a name, an index, or several")
    parser.add_argument("--out", type=Path, default=Path("explained"))
    args = parser.parse_args()

    explainer = ttame.load()
    explanation = explainer.explain(args.photos, classes=args.classes)
    for i, photo in enumerate(args.photos):
        for j in range(explanation.classes.shape[1]):
            area = float(explanation.masks[i, j].mean())
            print(
                f"{photo.name}: {explanation.label(i, j)} {explanation.probability(i, j):.1%}, "
                f"mean mask area {area:.2f}"
            )
    for path in explanation.save(args.out):
        print(path)


if __name__ == "__main__":
    main()
