"""Make the README's picture: photos, and what the classifier looked at for its two best classes.

python examples/readme_picture.py [--out docs/images/explanations.png]
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

import ttame
from ttame.pictures import contact_sheet

if TYPE_CHECKING:
    from PIL import Image

    from ttame import Explanation

# The last two show two classes each.
PHOTOS = ("great-egret", "sea-turtle", "porch", "train")
SIDE = 224  # of each photo on the sheet, in pixels


def column(explanation: Explanation, i: int) -> tuple[list[Image.Image], list[str]]:
    """Return photo ``i`` and its overlays, with a title for each."""
    from torchvision.transforms.functional import to_pil_image

    places = range(explanation.classes.shape[1])
    images = [to_pil_image(explanation.pixels[i])]
    images += [explanation.overlay(i, j) for j in places]
    titles = [
        "photo",
        *(f"{explanation.label(i, j)}  {explanation.probability(i, j):.0%}" for j in places),
    ]
    return images, titles


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("docs/images/explanations.png"))
    args = parser.parse_args()

    photos = [photo for name in PHOTOS for photo in ttame.sample_photos() if photo.stem == name]
    explanation = ttame.load().explain(photos, classes="top2")
    columns = [column(explanation, i) for i in range(len(photos))]
    rows = list(zip(*(images for images, _ in columns), strict=True))
    titles = list(zip(*(titles for _, titles in columns), strict=True))
    args.out.parent.mkdir(parents=True, exist_ok=True)
    contact_sheet(rows, titles, side=SIDE).save(args.out, optimize=True)
    print(args.out)


if __name__ == "__main__":
    main()
