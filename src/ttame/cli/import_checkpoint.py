"""``ttame import-checkpoint``: the authors' published explainers as explainer folders."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ttame.cli.console import say
from ttame.cli.options import WeightsOption, split_list


def import_checkpoint(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A PyTorch Lightning checkpoint.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The explainer folder to write.")],
    model: Annotated[
        str | None,
        typer.Option("--model", "-m", help="torchvision/NAME, where the file does not say."),
    ] = None,
    weights: WeightsOption = None,
    layer_names: Annotated[
        str | None,
        typer.Option("--layers", help="Graph nodes a,b,c, where the file does not say."),
    ] = None,
    branch: Annotated[
        str | None,
        typer.Option(
            "--branch", help="paper, no-norm, no-skip, sigmoid, identity: where it cannot be told."
        ),
    ] = None,
    fill: Annotated[
        str | None,
        typer.Option("--fill", help="black, mean, blur: the training's, where it cannot be told."),
    ] = None,
) -> None:
    """Turn a checkpoint of the T-TAME authors into an explainer; nothing in it is run."""
    from ttame.checkpoints.importing import import_checkpoint as run

    explainer = run(file, out, model, weights, split_list(layer_names), branch, fill)
    backbone = explainer.backbone
    say(
        f"{backbone.identity.source}, {backbone.num_classes} classes, "
        f"layers {', '.join(backbone.layers)}, branch {explainer.attention.branch}"
    )
    say(f"classifier's weights: {backbone.weights_file or 'published by torchvision'}")
    say(f"explainer in {out}")
