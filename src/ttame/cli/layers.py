"""``ttame layers``: which layers of a classifier an explainer can read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from ttame.cli.console import say, stdout
from ttame.cli.options import RequiredModel, WeightsOption

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ttame.backbone.contract import LayerInfo


def layers(
    model: RequiredModel,
    weights: WeightsOption = None,
    show_all: Annotated[
        bool, typer.Option("--all", "-a", help="Also those deep inside blocks.")
    ] = False,
) -> None:
    """List a classifier's layers with the shapes of their feature maps.

    No weights are downloaded: shapes do not depend on them.
    """
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    from ttame.backbone.registry import load_backbone

    backbone = load_backbone(model, weights=weights, pretrained=False)
    candidates = [*backbone.candidate_layers(), *backbone.computed_layers()]
    shown = candidates if show_all else outer_layers(candidates, backbone.layers)
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("layer", no_wrap=True)
    table.add_column("channels", justify="right")
    table.add_column("height x width", justify="right")
    table.add_column("default")
    for layer in shown:
        default = layer.name in backbone.layers
        channels, height, width = layer.shape
        table.add_row(
            escape(layer.name),
            str(channels),
            f"{height} x {width}",
            "yes" if default else "",
            style="bold" if default else None,
        )
    stdout().print(table)
    height, width = backbone.preprocessing.crop
    say(f"{backbone.identity.name}: {backbone.num_classes} classes, input {height} x {width}")
    if len(shown) < len(candidates):
        say(f"{len(shown)} of {len(candidates)} layers; --all shows every one")


def outer_layers(candidates: Sequence[LayerInfo], defaults: Sequence[str]) -> list[LayerInfo]:
    """Keep layers no deeper in the module tree than the deepest default, and the defaults."""
    depth = max((name.count(".") for name in defaults), default=0)
    return [layer for layer in candidates if layer.name.count(".") <= depth]
