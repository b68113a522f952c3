"""Compare two explainers, or two methods, photo by photo, from the scores written of them.

Each FOLDER is one that `ttame evaluate --out` or `ttame benchmark --out` wrote; photos that both
have are compared. Prints the means, and the first minus the second with its 95 % interval.

python benchmarks/paired.py FOLDER OTHER [--half reporting] [--method ttame] [--other-method ttame]
    [--metrics ad_100_matched,ic_100_matched]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import pandas as pd

from ttame.benchmarking.benchmark_result import BenchmarkResult
from ttame.benchmarking.halves import HALVES
from ttame.benchmarking.markdown import markdown_row
from ttame.benchmarking.means import check_metrics, column_means

METRICS = [
    f"{kind}_{share}{matched}"
    for matched in ("_matched", "")
    for kind in ("ad", "ic")
    for share in (100, 50, 15)
]


def scores(folder: Path, method: str, half: str) -> pd.DataFrame:
    """Return one method's values, one row per photo, by the photo's name."""
    table = BenchmarkResult.load(folder).per_image
    rows = table[(table["method"] == method) & (table["set"] == "photos")]
    rows = rows.assign(name=[Path(file).name for file in rows["file"]]).set_index("name")
    if rows.empty:
        known = ", ".join(sorted(set(table["method"])))
        raise SystemExit(f"{folder} has no scores of {method!r} on photos; it has {known}")
    if not rows.index.is_unique:
        raise SystemExit(f"{folder} has several photos of the same name")
    return rows if half == "all" else rows[rows["half"] == half]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("other", type=Path)
    parser.add_argument("--method", default="ttame")
    parser.add_argument("--other-method", default="ttame")
    parser.add_argument("--half", default="all", choices=("all", *HALVES))
    parser.add_argument("--metrics", default=",".join(METRICS))
    args = parser.parse_args()
    first = scores(args.folder, args.method, args.half)
    second = scores(args.other, args.other_method, args.half)
    both = first.index.intersection(second.index)
    if both.empty:
        raise SystemExit(f"{args.folder} and {args.other} have no photo in common")
    differing = first.loc[both, "class_index"] != second.loc[both, "class_index"]
    if differing.any():
        raise SystemExit(f"{differing.sum()} photos were explained for different classes")
    metrics = args.metrics.split(",")
    check_metrics(metrics, [name for name in first.columns if name in second.columns])
    tables = [table.loc[both, metrics] for table in (first, second)]
    missing = (tables[0] - tables[1]).isna()
    one, two, difference = map(
        column_means, [*(table.mask(missing) for table in tables), tables[0] - tables[1]]
    )
    print("| metric | photos | first | second | first - second |\n|---|---|---|---|---|")
    for metric in metrics:
        mean, low, high, photos = difference[metric]
        digits = 3 if metric == "mask_area" else 1
        values = [one[metric].mean, two[metric].mean]
        cells = [metric, str(photos), *(f"{value:.{digits}f}" for value in values)]
        cells.append(f"{mean:+.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]")
        print(markdown_row(cells))


if __name__ == "__main__":
    main()
