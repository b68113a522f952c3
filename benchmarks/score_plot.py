"""Plot a finished benchmark: area-matched average drop of all methods, with intervals.

Methods that were scored on few photos are hollow, controls grey; T-TAME's mean is a line through
all rows.

python benchmarks/score_plot.py DIR picture.png [--half reporting]
"""

from __future__ import annotations

import argparse
from pathlib import Path

from matplotlib.figure import Figure

from ttame.benchmarking.benchmark_result import BenchmarkResult
from ttame.benchmarking.means import most_photos

SHARES = (100, 50, 15)
OWN, CONTROL, OTHER = "#d1495b", "#999999", "#30638e"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("result", type=Path)
    parser.add_argument("picture", type=Path)
    parser.add_argument("--half", choices=("choosing", "reporting"))
    args = parser.parse_args()
    result = BenchmarkResult.load(args.result)
    draw(result if args.half is None else result.of_half(args.half)).savefig(args.picture, dpi=110)


def draw(result: BenchmarkResult) -> Figure:
    """Draw one panel a share, methods from the best to the worst at 50 %."""
    means = result.means()
    names = [name for name in means if f"ad_{SHARES[1]}_matched" in means[name]]
    names.sort(key=lambda name: -means[name][f"ad_{SHARES[1]}_matched"].mean)
    figure = Figure(figsize=(10, 1 + 0.25 * len(names)), layout="constrained")
    panels = figure.subplots(1, len(SHARES), sharey=True)
    for panel, share in zip(panels, SHARES, strict=True):
        metric = f"ad_{share}_matched"
        most = most_photos(means, metric)
        for row, name in enumerate(names):
            mean = means[name][metric]
            control = result.methods[name].get("control")
            colour = OWN if name == "ttame" else CONTROL if control else OTHER
            panel.plot([mean.low, mean.high], [row, row], color=colour, linewidth=1.5)
            face = colour if mean.n == most else "white"
            panel.plot(mean.mean, row, "o", color=colour, markerfacecolor=face, markersize=5)
        if "ttame" in names:
            panel.axvline(means["ttame"][metric].mean, color=OWN, linewidth=0.5)
        panel.set_title(f"AD {share} %, area-matched ↓", fontsize=9)
        panel.set_xlim(0, 100)
        panel.tick_params(labelsize=8)
        panel.spines[["top", "right"]].set_visible(False)
    panels[0].set_yticks(range(len(names)), [str(result.methods[name]["title"]) for name in names])
    return figure


if __name__ == "__main__":
    main()
