"""``ttame train``: an explainer for a classifier, from unlabelled photos."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ttame.cli.console import say, stdout
from ttame.cli.guard import interrupted
from ttame.cli.options import (
    DataOption,
    MultiLabelOption,
    RequiredModel,
    WeightsOption,
    read_settings,
    split_list,
)
from ttame.errors import InputError, unknown_name

if TYPE_CHECKING:
    from ttame.explainer import Explainer

# Arguments of the training that are no settings of it.
_OPTIONS = (
    "weights", "layers", "multi_label", "resume", "overwrite", "progress", "preset", "data", "out",
)  # fmt: skip


def train(
    model: RequiredModel,
    data: DataOption,
    out: Annotated[Path, typer.Option("--out", "-o", help="The explainer folder to write.")],
    weights: WeightsOption = None,
    multi_label: MultiLabelOption = None,
    preset: Annotated[str, typer.Option("--preset", help="fast or paper.")] = "fast",
    layer_names: Annotated[
        str | None,
        typer.Option("--layers", help="Layers to read, shallow to deep: a,b,c (ttame layers)."),
    ] = None,
    head: Annotated[str | None, typer.Option("--head", help="tied, shared or independent.")] = None,
    epochs: Annotated[int | None, typer.Option("--epochs", help="Passes over the photos.")] = None,
    batch_size: Annotated[
        int | None, typer.Option("--batch-size", "-b", help="Photos per step.")
    ] = None,
    lr: Annotated[float | None, typer.Option("--lr", help="Maximum learning rate.")] = None,
    seed: Annotated[int | None, typer.Option("--seed", help="Of everything drawn.")] = None,
    val_share: Annotated[
        float | None, typer.Option("--val-share", help="Share of the photos for validation.")
    ] = None,
    device: Annotated[
        str | None, typer.Option("--device", help="auto, cpu, cuda, cuda:1, mps ...")
    ] = None,
    precision: Annotated[
        str | None, typer.Option("--precision", help="auto, 32-true, bf16-mixed, 16-mixed.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option("--workers", help="Processes that read photos.")
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Any other value of the preset."),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue a training that was cut off.")
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the explainer that is in the folder.")
    ] = False,
) -> None:
    """Train an explainer for a classifier; photos need no labels.

    The best explainer so far is in the folder from the first validation on.
    """
    named = {
        "head": head,
        "epochs": epochs,
        "batch_size": batch_size,
        "lr": lr,
        "seed": seed,
        "val_share": val_share,
        "device": device,
        "precision": precision,
        "workers": workers,
    }
    overrides = merge({k: v for k, v in named.items() if v is not None}, settings or [])
    _check(preset, overrides, data, out)

    from ttame.training.run import LAST
    from ttame.training.run import train as run_training

    try:
        explainer = run_training(
            model,
            data,
            out,
            preset,
            weights=weights,
            layers=split_list(layer_names),
            multi_label=multi_label,
            resume=resume,
            overwrite=overwrite,
            **overrides,
        )
    except KeyboardInterrupt:
        if not (out / "training" / LAST).is_file():
            raise KeyboardInterrupt("no epoch was finished, nothing to resume") from None
        raise interrupted(out) from None
    # Several GPUs run this command several times; one of them speaks.
    if os.environ.get("LOCAL_RANK", "0") == "0":
        _report(explainer, out)


def merge(named: dict[str, Any], settings: list[str]) -> dict[str, Any]:
    """Join options that have names of their own with those of ``--set``.

    Raises:
        InputError: A setting has no ``=`` or is given twice.
    """
    others = read_settings(settings)
    both = sorted(named.keys() & others.keys())
    if both:
        raise InputError(f"{both[0]} is given twice, by its own option and by --set")
    return {**named, **others}


def _check(preset: str, overrides: dict[str, Any], data: Path, out: Path) -> None:
    """Refuse what cannot work before torch is imported and a classifier loaded."""
    from ttame.files import check_writable
    from ttame.images.listing import list_photos
    from ttame.training.config import load_preset

    # Names of train's own arguments are no settings, and would clash as keywords.
    for name in _OPTIONS:
        if name in overrides:
            option = name.replace("_", "-")
            raise unknown_name("training setting", name, (), f"(it is an option: --{option})")
    load_preset(preset, overrides)
    if not data.exists():
        list_photos(data)
    check_writable(out)


def _report(explainer: Explainer, out: Path) -> None:
    from rich import box
    from rich.table import Table

    scores = explainer.provenance.get("scores", {}).get("validation", {})
    if scores:
        table = Table(box=box.SIMPLE_HEAD, title="validation", title_justify="left")
        for name in scores:
            table.add_column(str(name), justify="right")
        table.add_row(*(f"{value:g}" for value in scores.values()))
        stdout().print(table)
    say(f"explainer in {out}")
