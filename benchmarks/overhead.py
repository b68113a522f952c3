"""Measure what an explanation costs: (prediction + explanation) / prediction alone.

Both are timed in turn, several rounds, and the median of the rounds' ratios is printed, so that a
machine whose speed drifts disturbs both alike. Weights are random: they do not change the time.

python benchmarks/overhead.py [--networks resnet50 vgg16 vit_b_16] [--batches 1 8] [--rounds 7]
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch

import ttame

NETWORKS = ("resnet50", "vgg16", "vit_b_16")
SHORTEST = 0.2  # seconds a timed call must take: fast networks are called several times


def seconds(call: Callable[[], Any], repeats: int) -> float:
    """Return the mean time of one call."""
    synchronise()
    start = time.perf_counter()
    for _ in range(repeats):
        call()
    synchronise()
    return (time.perf_counter() - start) / repeats


def synchronise() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def compare(
    plain: Callable[[], Any], explained: Callable[[], Any], rounds: int
) -> list[tuple[float, float]]:
    """Time both in turn after warming up; the order changes from round to round."""
    for _ in range(2):
        plain()
        explained()
    repeats = max(1, round(SHORTEST / seconds(plain, 1)))
    pairs = []
    for number in range(rounds):
        if number % 2:
            b = seconds(explained, repeats)
            a = seconds(plain, repeats)
        else:
            a = seconds(plain, repeats)
            b = seconds(explained, repeats)
        pairs.append((a, b))
    return pairs


def row(network: str, batches: list[int], rounds: int, device: str, detail: float) -> list[str]:
    """Return one table row for each batch size."""
    backbone = ttame.load_backbone(f"torchvision/{network}", pretrained=False)
    explainer = ttame.new_explainer(backbone, detail=detail).to(device)
    height, width = backbone.preprocessing.crop
    rows = []
    for batch in batches:
        images = torch.randn(batch, 3, height, width, device=device)
        with torch.inference_mode():
            pairs = compare(
                lambda images=images: backbone.module(images),
                lambda images=images: explainer(images),
                rounds,
            )
        ratios = [b / a for a, b in pairs]
        plain, explained = (1000 * statistics.median(times) for times in zip(*pairs, strict=True))
        rows.append(
            f"| {network} | {batch} | {plain:.1f} | {explained:.1f} "
            f"| {statistics.median(ratios):.3f} | {min(ratios):.3f}-{max(ratios):.3f} |"
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", nargs="+", default=NETWORKS, help="names of torchvision")
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 8])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, help="CPU threads; all cores where not given")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--detail", type=float, default=0.06, help="of the masks, as in `fast`")
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    torch.manual_seed(0)

    print(
        f"torch {torch.__version__}, {args.device}, {torch.get_num_threads()} threads, "
        f"median of {args.rounds} interleaved rounds, predicted class\n"
    )
    print("| network | batch | prediction, ms | with explanation, ms | ratio | range |")
    print("|---|---|---|---|---|---|")
    for network in args.networks:
        for line in row(network, args.batches, args.rounds, args.device, args.detail):
            print(line, flush=True)


if __name__ == "__main__":
    main()
