"""``ttame ablate``: the same training with one part changed at a time, one table."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from ttame.cli.console import say, stderr, stdout, tell_left_out
from ttame.cli.guard import interrupted
from ttame.cli.options import ModelOption, WeightsOption


def ablate(
    config: Annotated[Path, typer.Option("--config", "-c", help="YAML file that names the cells.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for all results.")],
    data: Annotated[
        Path | None, typer.Option("--data", "-d", help="Photos to train on, instead of the file's.")
    ] = None,
    eval_data: Annotated[
        Path | None, typer.Option("--eval-data", help="Photos to score on, instead of the file's.")
    ] = None,
    model: ModelOption = None,
    weights: WeightsOption = None,
    images: Annotated[
        int | None,
        typer.Option("--images", "-n", min=1, help="Draw so many photos to score on."),
    ] = None,
    device: Annotated[
        str | None, typer.Option("--device", help="auto, cpu, cuda, cuda:1, mps ...")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue an ablation that was cut off.")
    ] = False,
    jobs: Annotated[
        int, typer.Option("--jobs", "-j", min=1, help="Processes that each train a cell.")
    ] = 1,
) -> None:
    """Train variants of an explainer and score them on the same photos.

    All variants are checked before the first is trained; one that fails does not stop the others.
    """
    from ttame.ablation.config import read_config
    from ttame.benchmarking.settings import check_out

    given = {
        "model": model,
        "weights": weights,
        "data": data,
        "eval_data": eval_data,
        "images": images,
    }
    checked = read_config(config, **given)
    check_out(out, resume, "ablation")

    from ttame.ablation.run import ablate as run_ablation

    console = stderr()

    def tell(name: str, finished: int, total: int) -> None:
        if name:
            console.print(f"{finished} of {total} cells finished; {name}", markup=False)

    try:
        result = run_ablation(
            checked,
            out,
            resume=resume,
            jobs=jobs,
            device=device,
            progress=tell,
            show_training=jobs == 1 and console.is_terminal,
            command=shlex.join(["ttame", *sys.argv[1:]]),
        )
    except KeyboardInterrupt:
        raise interrupted(out) from None
    stdout().print(result.table())
    if result.scores is not None:
        tell_left_out(result.scores.broken)
    say(f"results in {out}, the table in ablation.md, the picture in ablation.png")
