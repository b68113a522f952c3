"""``ttame evaluate``: first scores of an explainer beside other methods."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ttame.cli.console import progress_bar, say, stdout, tell_left_out
from ttame.cli.options import (
    BatchSizeOption,
    DataOption,
    DeviceOption,
    ExplainerOption,
    ForceOption,
    ImagesOption,
    ModelOption,
    WeightsOption,
    WorkersOption,
    load_explainer,
    pick_workers,
    read_shares,
    split_list,
)


def evaluate(
    data: DataOption,
    explainer: ExplainerOption = None,
    method_names: Annotated[
        str | None,
        typer.Option("--methods", help="Compare with: names separated by commas (ttame methods)."),
    ] = None,
    images: ImagesOption = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Folder for the results.")] = None,
    shares: Annotated[
        str, typer.Option("--shares", help="Percent of the pixels that stay, most important first.")
    ] = "100,50,15",
    batch_size: BatchSizeOption = 32,
    workers: WorkersOption = None,
    seed: Annotated[int, typer.Option("--seed", help="For drawn photos, ties, bootstrap.")] = 0,
    device: DeviceOption = "auto",
    model: ModelOption = None,
    weights: WeightsOption = None,
    force: ForceOption = False,
) -> None:
    """Score an explainer and other methods on photos (average drop, increase in confidence)."""
    from ttame.files import check_writable
    from ttame.images.listing import list_photos

    kept = read_shares(shares)
    wanted = split_list(method_names)
    if out is not None:
        check_writable(out)
    photos = list_photos(data)
    loaded = load_explainer(explainer, model, weights, device, force)

    from ttame.benchmarking.confidence_table import confidence_table
    from ttame.benchmarking.evaluation import DEFAULT_METHODS
    from ttame.benchmarking.evaluation import evaluate as run_evaluation

    with progress_bar() as bar:
        task = bar.add_task("photos", total=None)
        result = run_evaluation(
            loaded,
            photos,
            methods=DEFAULT_METHODS if wanted is None else wanted,
            shares=kept,
            images=images,
            batch_size=batch_size,
            workers=pick_workers(workers, images or len(photos)),
            seed=seed,
            out=out,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    stdout().print(confidence_table(result))
    tell_left_out(result.broken)
    if out is not None:
        say(f"results in {out}")
