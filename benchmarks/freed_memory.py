"""Measure what keeping freed memory in the process is worth on a CPU.

Each round times the same passes in two new processes, one after the other: with the allocator as
it is, and after `ttame.allocator.keep_freed_memory()`. The median of the rounds' ratios is printed.

python benchmarks/freed_memory.py [--source ttame/efficientnet-lite0] [--batch 16] [--rounds 5]
    [--threads 2] [--train]
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import torch

import ttame
from ttame.allocator import keep_freed_memory


def passes(source: str, batch: int, train: bool) -> Callable[[], object]:
    """Return a call that classifies a batch, with gradients to the images if ``train``."""
    backbone = ttame.load_backbone(source, pretrained=source.startswith("ttame/"))
    size = backbone.preprocessing.crop
    images = torch.randn(batch, 3, *size).contiguous(memory_format=torch.channels_last)

    def classify() -> object:
        with torch.inference_mode():
            return backbone.logits(images)

    def step() -> object:
        wanted = images.clone().requires_grad_()
        return torch.autograd.grad(backbone.logits(wanted).sum(), wanted)

    return step if train else classify


def measure(args: argparse.Namespace) -> None:
    """Print the median milliseconds per image of this process."""
    if args.child == "kept":
        keep_freed_memory()
    torch.set_num_threads(args.threads)
    call = passes(args.source, args.batch, args.train)
    times = []
    for number in range(9):
        start = time.perf_counter()
        call()
        if number > 1:
            times.append(time.perf_counter() - start)
    print(json.dumps(1000 * statistics.median(times) / args.batch))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--source", default="ttame/efficientnet-lite0")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--train", action="store_true", help="with the gradient to the images")
    parser.add_argument("--child", choices=("plain", "kept"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        measure(args)
        return
    found: dict[str, list[float]] = {"plain": [], "kept": []}
    for _ in range(args.rounds):
        for kind, times in found.items():
            command = [sys.executable, *sys.argv, "--child", kind]
            done = subprocess.run(command, check=True, capture_output=True)
            times.append(json.loads(done.stdout.splitlines()[-1]))
    ratios = [kept / plain for plain, kept in zip(found["plain"], found["kept"], strict=True)]
    print(
        f"{args.source}, batch {args.batch}, {args.threads} threads, {args.rounds} rounds: "
        f"{statistics.median(found['plain']):.1f} ms an image as it is, "
        f"{statistics.median(found['kept']):.1f} ms with freed memory kept, "
        f"ratio {statistics.median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f})"
    )


if __name__ == "__main__":
    main()
