"""Measure what ROAD's imputation costs: ours, batched, against that of grad-cam.

All are timed in turn, several rounds, on the same photos and masks, and the median of the rounds'
ratios is printed, so that a machine whose speed drifts disturbs all alike. Noise is off
unless asked for, so that the difference from the exact solution can be told; ours stands at its
default tolerance.

Masks: `map` removes the top of a smooth map of 7 x 7 cells, as usual explanations are, `random`
single pixels. "After torch's work": right after an operation of torch, whose threads (libgomp's) go
on waiting busily for some milliseconds on the cores of those that fill; else they are at rest.

python benchmarks/road.py [--batch 16] [--rounds 7] [--threads 2] [--noise 0.01]
    [--device cpu]
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from pytorch_grad_cam.metrics.road import NoisyLinearImputer
from torch import Tensor

import ttame
from ttame.allocator import keep_freed_memory
from ttame.images.reading import read_image
from ttame.metrics.imputation import impute, solver
from ttame.metrics.perturbation import removal_ranks
from ttame.metrics.road import first_to_go

SIZE = 224
SHARES = (0.1, 0.5, 0.9)


def photos(batch: int) -> Tensor:
    """Return sample photos (batch, 3, 224, 224), mirrored and turned where there are too few."""
    files = ttame.sample_photos()
    images = np.stack([np.array(read_image(file).resize((SIZE, SIZE))) for file in files])
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2) / 255
    variants = torch.cat([pixels, pixels.flip(3), pixels.rot90(2, (2, 3)), pixels.flip(2)])
    return variants.repeat(-(-batch // len(variants)), 1, 1, 1)[:batch]


def masks(kind: str, batch: int, share: float) -> Tensor:
    """Return which pixels are removed, (batch, 224, 224)."""
    generator = torch.Generator().manual_seed(0)
    side = 7 if kind == "map" else SIZE
    values = torch.rand(batch, 1, side, side, generator=generator)
    values = F.interpolate(values, size=(SIZE, SIZE), mode="bilinear")[:, 0]
    return first_to_go(removal_ranks(values, range(batch), most_first=True), share)


def seconds(call: Callable[[], Any], before: Callable[[], Any] | None = None) -> float:
    """Return the time of one call, with torch's threads at rest or right after work of theirs.

    After their work they wait busily for some milliseconds, on the cores of those that fill.
    """
    synchronise()
    time.sleep(0.02)
    if before is not None:
        before()
        synchronise()
    start = time.perf_counter()
    call()
    synchronise()
    return time.perf_counter() - start


def synchronise() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def row(kind: str, share: float, batch: int, rounds: int, device: str, noise: float) -> str:
    """Time one kind of mask; grad-cam imputes one photo after the other, `rounds` of the batch."""
    images, removed = photos(batch), masks(kind, batch, share)
    on_device, gone = images.to(device), removed.to(device)
    theirs = NoisyLinearImputer(noise=noise)
    keep = (~removed).float()
    filled = impute(on_device, gone, range(batch), noise).cpu()
    pairs, busy, difference = [], [], 0.0

    def fill() -> None:
        impute(on_device, gone, range(batch), noise)

    for number in range(rounds):
        one = number % batch
        ours = seconds(fill) / batch
        slow = seconds(lambda one=one: theirs(images[one], keep[one]))
        again = seconds(fill) / batch
        pairs.append((slow, (ours + again) / 2))
        busy.append(slow / seconds(fill, before=lambda: on_device * 2) * batch)
        difference = max(
            difference, (theirs(images[one], keep[one]) - filled[one]).abs().max().item()
        )
    slow, ours = (1000 * statistics.median(times) for times in zip(*pairs, strict=True))
    ratios = [a / b for a, b in pairs]
    return (
        f"| {kind} | {100 * share:.0f} % | {slow:.1f} | {ours:.2f} "
        f"| {statistics.median(ratios):.1f} | {min(ratios):.1f}-{max(ratios):.1f} "
        f"| {statistics.median(busy):.1f} "
        f"| {'noise' if noise else f'{difference:.1e}'} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, help="CPU threads; all cores where not given")
    parser.add_argument("--noise", type=float, default=0.0, help="0.01 as in a benchmark")
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    keep_freed_memory()  # as `ttame benchmark` does, for all methods
    if args.threads:
        torch.set_num_threads(args.threads)

    print(
        f"torch {torch.__version__}, {args.device}, {torch.get_num_threads()} threads, "
        f"solver {solver(args.device)}, {SIZE} px, batch {args.batch}, "
        f"{args.rounds} interleaved rounds\n"
    )
    print(
        "| removed | share | grad-cam, ms | ours, ms | ratio | range | ratio after torch's work "
        "| largest difference |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for kind in ("map", "random"):
        for share in SHARES:
            print(row(kind, share, args.batch, args.rounds, args.device, args.noise), flush=True)


if __name__ == "__main__":
    main()
