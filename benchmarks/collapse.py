"""Train many explainers with the defaults untouched and look whether any training collapses.

Five classifiers, several seeds each: EfficientNet-Lite0, three small CNNs that are first trained
here on the photos' own labels, and a vision transformer of timm with local weights. A training
counts as sound if the guard found nothing, the mean mask area of held-out photos lies in 0.1 to 0.9
and the maps keep more of the confidence than random ones at 50 and 15 % of the pixels.

python benchmarks/collapse.py --data photos.csv [--vit-weights FILE] [--photos 500] [--seeds 4]
    --out DIR

The CSV has the columns ``path`` (or ``file``) and ``label``.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from pathlib import Path

import timm
import torch
from torch import nn

import ttame
from ttame.backbone.registry import load_backbone
from ttame.benchmarking.evaluation import evaluate
from ttame.images.listing import Photo, list_photos
from ttame.images.reading import as_photo
from ttame.storage import read_description

LITE0 = "efficientnet-lite0"
SMALL = ("resnet10t", "mobilenetv3_small_100", "convnext_atto")
PIXELS = 96


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--vit", default="timm/vit_small_patch14_dinov2")
    parser.add_argument("--vit-weights", type=Path)
    parser.add_argument("--photos", type=int, default=500, help="photos of each training")
    parser.add_argument("--held-out", type=int, default=100, help="photos to score on")
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--only", default="", help="names of classifiers with this text in them")
    parser.add_argument("--epochs", type=int, default=6, help="of the small classifiers' training")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()

    photos = shuffled(list_photos(args.data))
    held, rest = photos[: args.held_out], photos[args.held_out :]
    used = rest[: args.photos]
    args.out.mkdir(parents=True, exist_ok=True)
    sound = total = 0
    print("| classifier | seed | guard | mask area | AD 50 / 15 | random | minutes | sound |")
    print("|---|---|---|---|---|---|---|---|", flush=True)
    for name, make in classifiers(rest, args):
        for seed in range(args.seeds):
            record = trained(name, make(), used, held, seed, args.out)
            sound, total = sound + record["sound"], total + 1
            print(row(record), flush=True)
    print(f"\n{sound} of {total} trainings are sound", flush=True)


def shuffled(photos: list[Photo]) -> list[Photo]:
    order = torch.randperm(len(photos), generator=torch.Generator().manual_seed(0))
    return [photos[index] for index in order.tolist()]


def classifiers(photos: list[Photo], args: argparse.Namespace) -> Iterator[tuple[str, object]]:
    """Yield names and makers of fresh backbones."""
    if args.only in LITE0:
        yield LITE0, lambda: load_backbone(f"ttame/{LITE0}")
    if args.vit_weights is not None and args.only in args.vit:
        yield args.vit, lambda: load_backbone(args.vit, weights=args.vit_weights)
    for name in SMALL:
        if args.only not in name:
            continue
        model, accuracy = small_classifier(name, photos, args.epochs)
        yield (
            f"{name} ({accuracy:.0f} %)",
            lambda model=model: load_backbone(model, preprocessing=preprocessing()),
        )


def preprocessing() -> ttame.Preprocessing:
    return ttame.Preprocessing(crop=(PIXELS, PIXELS), resize=PIXELS)


def small_classifier(name: str, photos: list[Photo], epochs: int) -> tuple[nn.Module, float]:
    """Train a small network on the photos' labels; returns it and its accuracy on every tenth."""
    torch.manual_seed(0)
    plan = preprocessing()
    pixels = torch.stack([plan.pixels(as_photo(photo.path)) for photo in photos])
    known = sorted({photo.label for photo in photos})
    labels = torch.tensor([known.index(photo.label) for photo in photos])
    model = timm.create_model(name, num_classes=len(known)).to(memory_format=torch.channels_last)
    test = torch.arange(0, len(photos), 10)
    train = torch.tensor([index for index in range(len(photos)) if index % 10])
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.05)
    steps = epochs * (len(train) // 32)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=steps)
    model.train()
    for _ in range(epochs):
        order = train[torch.randperm(len(train))]
        for batch in order[: len(order) // 32 * 32].view(-1, 32):
            images = plan.normalise(pixels[batch])
            images = images.flip(3) if torch.rand(()) < 0.5 else images
            with torch.autocast("cpu", torch.bfloat16):
                loss = nn.functional.cross_entropy(model(images).float(), labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    model.eval()
    with torch.no_grad():
        right = [
            model(plan.normalise(pixels[part])).argmax(1) == labels[part] for part in test.split(64)
        ]
    return model, 100 * torch.cat(right).float().mean().item()


def trained(
    name: str, backbone: ttame.Backbone, used: list[Photo], held: list[Photo], seed: int, out: Path
) -> dict[str, object]:
    folder = out / f"{Path(name.partition(' ')[0]).name}-{seed}"
    start = time.monotonic()
    explainer = ttame.train(
        backbone, [photo.path for photo in used], folder, seed=seed, overwrite=True, progress=False
    )
    minutes = (time.monotonic() - start) / 60
    findings = read_description(folder)["training"]["collapse"]
    result = evaluate(explainer, [photo.path for photo in held], methods=["random"])
    means = result.means()
    own, random = means["ttame"], means["random"]
    record = {
        "name": name,
        "seed": seed,
        "findings": findings,
        "area": own["mask_area"].mean,
        "drops": [own[f"ad_{share}_matched"].mean for share in (50, 15)],
        "random": [random[f"ad_{share}_matched"].mean for share in (50, 15)],
        "minutes": minutes,
    }
    better = all(a < b for a, b in zip(record["drops"], record["random"], strict=True))
    record["sound"] = not findings and 0.1 < record["area"] < 0.9 and better
    with (out / "collapse.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(record) + "\n")
    return record


def row(record: dict[str, object]) -> str:
    numbers = [" / ".join(f"{v:.1f}" for v in record[key]) for key in ("drops", "random")]
    guard = "; ".join(record["findings"]) or "nothing"
    return (
        f"| {record['name']} | {record['seed']} | {guard} | {record['area']:.3f} | {numbers[0]} | "
        f"{numbers[1]} | {record['minutes']:.1f} | {'yes' if record['sound'] else 'NO'} |"
    )


if __name__ == "__main__":
    main()
