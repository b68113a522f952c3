"""Simulate how often equal methods look different, because the best is found on the same photos.

Methods that are equal in truth score photos with independent normal noise over what the photo
itself is worth. The best mean is compared with all others as the benchmark does it (sign-flip test,
Holm's correction); counted are the runs in which at least one is called worse.

python benchmarks/best_of_many.py [--runs 300] [--photos 80]
"""

from __future__ import annotations

import argparse

import numpy as np

from ttame.benchmarking.comparing import holm, sign_flip_p_values
from ttame.benchmarking.comparisons import LEVEL


def share_with_a_difference(methods: int, photos: int, runs: int, seed: int = 0) -> float:
    """Return the share of runs in which some method is called worse than the best."""
    generator = np.random.default_rng(seed)
    found = 0
    for run in range(runs):
        scores = generator.normal(size=(photos, 1)) + generator.normal(size=(photos, methods))
        best = scores.mean(axis=0).argmin()
        differences = np.delete(scores - scores[:, [best]], best, axis=1)
        found += min(holm(sign_flip_p_values(differences, run))) < LEVEL
    return found / runs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=300)
    parser.add_argument("--photos", type=int, default=80)
    args = parser.parse_args()
    print("| equal methods | runs with a difference |\n|---|---|")
    for methods in (2, 5, 20):
        share = share_with_a_difference(methods, args.photos, args.runs)
        print(f"| {methods} | {100 * share:.1f} % |", flush=True)


if __name__ == "__main__":
    main()
