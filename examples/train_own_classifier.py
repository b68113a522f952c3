"""Train an explainer for an own classifier: any nn.Module that gives logits.

As it stands, it runs in about a minute on the bundled photos with a small, untrained network: it
shows the way, not a result. Put your own model, names and photos (a few thousand) in their places.

python examples/train_own_classifier.py [--data FOLDER] [--out my-explainer] [--epochs 2]
"""

from __future__ import annotations

import argparse
from itertools import pairwise
from pathlib import Path

import torch
from torch import nn

import ttame


class OwnClassifier(nn.Module):
    """Stands for your model, with your trained weights in it."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        widths = (3, 16, 32, 64)
        self.blocks = nn.Sequential(
            *(
                nn.Sequential(nn.Conv2d(a, b, 3, 2, 1), nn.BatchNorm2d(b), nn.ReLU())
                for a, b in pairwise(widths)
            )
        )
        self.fc = nn.Linear(widths[-1], classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return logits (B, K) of normalised images (B, 3, H, W)."""
        return self.fc(self.blocks(images).mean(dim=(2, 3)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default=ttame.sample_photos(), help="folder, text list or CSV")
    parser.add_argument("--out", type=Path, default=Path("my-explainer"))
    parser.add_argument("--epochs", type=int, default=2)
    args = parser.parse_args()

    torch.manual_seed(0)
    model = OwnClassifier(classes=4)
    # How your model wants its photos: the same resizing and normalisation as in its own training.
    preprocessing = ttame.Preprocessing(
        crop=(96, 96), resize=112, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)
    )
    backbone = ttame.load_backbone(
        model, preprocessing=preprocessing, class_names=["red", "green", "blue", "grey"]
    )
    print("layers:", ", ".join(backbone.layers))
    ttame.train(
        backbone, args.data, args.out, epochs=args.epochs, batch_size=4, workers=0, overwrite=True
    )

    # Later, anywhere: the folder holds the explainer, your program brings the classifier.
    explainer = ttame.load(args.out, backbone=model)
    explanation = explainer.explain(ttame.sample_photos()[0])
    print(explanation.label(0), f"{explanation.probability(0):.1%}")
    print(explanation.save(args.out / "pictures")[0])


if __name__ == "__main__":
    main()
