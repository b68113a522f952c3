"""``ttame explain``: pictures of what a classifier looks at."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ttame.cli.console import complain, progress_bar, say, stdout
from ttame.cli.guard import FAILED
from ttame.cli.options import (
    BatchSizeOption,
    DeviceOption,
    ExplainerOption,
    ForceOption,
    ModelOption,
    WeightsOption,
    WorkersOption,
    load_explainer,
    pick_workers,
)

if TYPE_CHECKING:
    from ttame.cli.photos import Item
    from ttame.cli.results import ResultsFolder
    from ttame.explainer import Explainer

# Up to so many photos a table shows every prediction; above, only the count is printed.
_TABLE = 10


def explain(
    images: Annotated[
        list[Path], typer.Argument(metavar="IMAGE", help="Photos, or folders of photos.")
    ],
    explainer: ExplainerOption = None,
    classes: Annotated[
        str,
        typer.Option(
            "--classes", "-c", help="top3, or names and indices separated by commas: tench,5."
        ),
    ] = "top3",
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the pictures.")] = Path(
        "ttame-explanations"
    ),
    json: Annotated[bool, typer.Option("--json", help="Also write explanations.json.")] = False,
    npy: Annotated[bool, typer.Option("--npy", help="Also write the maps as arrays.")] = False,
    batch_size: BatchSizeOption = 16,
    workers: WorkersOption = None,
    device: DeviceOption = "auto",
    model: ModelOption = None,
    weights: WeightsOption = None,
    force: ForceOption = False,
) -> None:
    """Classify photos and show where the classifier saw each class."""
    from ttame.cli.photos import gather
    from ttame.cli.results import ResultsFolder, rows
    from ttame.files import check_writable

    items = gather(images)
    results = ResultsFolder(check_writable(out), arrays=npy)
    loaded = load_explainer(explainer, model, weights, device, force)
    _run(loaded, items, classes, batch_size, workers, results)
    if json:
        results.write_json(loaded.summary())
    if len(items) <= _TABLE:
        _show(rows(results.photos, out))
    for entry in results.broken:
        complain("left out", entry["reason"], "yellow")
    pictures = sum(len(photo["maps"]) for photo in results.photos)
    broken = f", {len(results.broken)} could not be read" if results.broken else ""
    say(f"{pictures} pictures of {len(results.photos)} photos in {out}{broken}")
    # A folder's broken photos are only listed; a photo that was named must not be missed.
    named = {str(path) for path in images if not Path(path).is_dir()}
    if not results.photos or any(entry["file"] in named for entry in results.broken):
        raise typer.Exit(FAILED)


def _run(
    explainer: Explainer,
    items: Sequence[Item],
    classes: str,
    batch_size: int,
    workers: int | None,
    results: ResultsFolder,
) -> None:
    from ttame.classes import parse_classes
    from ttame.images.dataset import Broken

    backbone = explainer.backbone
    # Parsed here, so that a typo is noticed before the first photo is read.
    request = parse_classes(classes, backbone.class_names, backbone.num_classes)
    targets = {str(item.photo.path): item.target for item in items}
    stream = explainer.stream(
        [item.photo for item in items],
        request,
        batch_size=batch_size,
        workers=pick_workers(workers, len(items)),
    )
    with progress_bar() as bar:
        task = bar.add_task("photos", total=len(items))
        for part in stream:
            if isinstance(part, Broken):
                file = str(items[part.index].photo.path)
                results.broken.append({"file": file, "reason": part.message})
                bar.advance(task)
                continue
            for i, file in enumerate(part.sources or ()):
                results.add(part, i, file, targets[file])
                bar.advance(task)


def _show(lines: Sequence[tuple[str, str, str, str]]) -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    if not lines:
        return
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("photo", overflow="fold")
    table.add_column("class", overflow="fold")
    table.add_column("probability", justify="right")
    table.add_column("picture", overflow="fold")
    for line in lines:
        # Text, not markup: names may hold brackets.
        table.add_row(*map(Text, line))
    stdout().print(table)
