"""``ttame benchmark``: every method, every measure, one classifier, one command."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ttame.cli.assignments import read_explainers, read_limits, read_options, with_options
from ttame.cli.console import progress_bar, progress_lines, say, stdout, tell_left_out
from ttame.cli.guard import interrupted
from ttame.cli.options import (
    BatchSizeOption,
    DataOption,
    DeviceOption,
    ExplainerOption,
    ForceOption,
    ImagesOption,
    ModelOption,
    MultiLabelOption,
    WeightsOption,
    WorkersOption,
    load_explainer,
    pick_device,
    pick_workers,
    split_list,
)
from ttame.errors import InputError, unknown_name

if TYPE_CHECKING:
    from rich.progress import Progress

    from ttame.backbone.contract import Backbone
    from ttame.explainer import Explainer

# Options that say where and how fast, not what: a repeated run may have others.
_ELSEWHERE = {
    **dict.fromkeys(("--out", "-o", "--jobs", "-j", "--part", "--workers"), 1),
    "--resume": 0,
}


def benchmark(
    data: DataOption,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for all results.")],
    explainer: ExplainerOption = None,
    model: ModelOption = None,
    weights: WeightsOption = None,
    multi_label: MultiLabelOption = None,
    method_names: Annotated[
        str | None,
        typer.Option("--methods", help="Names separated by commas (ttame methods), or all."),
    ] = None,
    metrics: Annotated[
        str | None,
        typer.Option("--metrics", help="Measures or single metrics (ttame metrics), or all."),
    ] = None,
    boxes: Annotated[
        Path | None, typer.Option("--boxes", help="CSV of marked objects, for localisation.")
    ] = None,
    regions: Annotated[
        Path | None, typer.Option("--regions", help="CSV of segmentation masks, for the overlap.")
    ] = None,
    images: ImagesOption = None,
    slow_images: Annotated[
        int | None,
        typer.Option("--slow-images", min=1, help="Photos for slow methods and measures; 50."),
    ] = None,
    slow: Annotated[
        str | None,
        typer.Option("--slow", help="Further methods and measures that count as slow."),
    ] = None,
    limit: Annotated[
        list[str] | None,
        typer.Option(
            "--limit",
            metavar="NAME=N",
            help="Photos for one method or measure, N or all; several with commas.",
        ),
    ] = None,
    again_images: Annotated[
        int | None,
        typer.Option(
            "--again-images",
            min=1,
            help="Photos on which slow methods explain again; a fifth of --slow-images.",
        ),
    ] = None,
    half: Annotated[
        str, typer.Option("--half", help="all, choosing (to tune on) or reporting (to publish).")
    ] = "all",
    normalisation: Annotated[
        str,
        typer.Option(
            "--normalisation",
            help="Maps become masks by minmax, positive, magnitude, clipped or ranks.",
        ),
    ] = "minmax",
    upsampling: Annotated[
        str,
        typer.Option("--upsampling", help="bilinear, or nearest: cells of maps stay rectangles."),
    ] = "bilinear",
    detail: Annotated[
        float,
        typer.Option("--detail", help="Share of the photo's edges in other methods' masks."),
    ] = 0.0,
    judge: Annotated[
        str | None, typer.Option("--judge", help="Another classifier, for the transfer score.")
    ] = None,
    judge_weights: Annotated[
        Path | None,
        typer.Option("--judge-weights", help="The judge's weight file, instead of a download."),
    ] = None,
    also: Annotated[
        list[str] | None,
        typer.Option("--also", metavar="NAME=FOLDER", help="Another explainer of the classifier."),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="NAME.OPTION=VALUE", help="An option of a method or measure."
        ),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Of everything drawn.")] = 0,
    batch_size: BatchSizeOption = 16,
    jobs: Annotated[
        int, typer.Option("--jobs", "-j", min=1, help="Processes that share the work.")
    ] = 1,
    part: Annotated[
        str | None,
        typer.Option("--part", metavar="K/N", help="Compute one of N parts, on any machine."),
    ] = None,
    workers: WorkersOption = None,
    device: DeviceOption = "auto",
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue a run that was cut off.")
    ] = False,
    report: Annotated[
        bool, typer.Option("--report/--no-report", help="Write report.html too.")
    ] = True,
    force: ForceOption = False,
) -> None:
    """Score explanation methods on the same photos, with intervals, tests and a report.

    With --model and without --explainer, the other methods are compared on that classifier.
    """
    from ttame.benchmarking.parts import parse_part
    from ttame.benchmarking.settings import check_out
    from ttame.images.listing import list_photos

    check_out(out, resume, part=None if part is None else parse_part(part))
    photos = list_photos(data)
    folders = read_explainers(also or [])
    options = read_options(settings or [])
    for marks, kind in ((boxes, "boxes"), (regions, "segmentation masks")):
        if marks is not None and not marks.is_file():
            raise InputError(f"the file of {kind} {str(marks)!r} does not exist; check the path")

    from ttame.benchmarking.choosing import check_limits, choose_measures, choose_methods
    from ttame.benchmarking.report.page import NAME as REPORT
    from ttame.benchmarking.run import benchmark as run_benchmark

    own_names = [*([] if explainer is None and model else ["ttame"]), *folders]
    methods = choose_methods(split_list(method_names), own_names)
    given = (boxes is not None, judge is not None, regions is not None)
    measures = choose_measures(split_list(metrics), *given)
    known = [*(item.name for item in methods), *(item.name for item in measures)]
    limits = read_limits(limit or (), [*own_names, *known])
    check_limits(limits, measures, methods, own_names)
    methods = tuple(with_options(item, options) for item in methods)
    measures = tuple(with_options(item, options) for item in measures)
    if options:
        raise unknown_name("method or measure of this run", next(iter(options)), known)
    place = pick_device(device)
    own, backbone = _load(explainer, model, weights, multi_label, device, force)
    others = {name: _also(folder, backbone, place, force) for name, folder in folders.items()}
    with progress_bar() as bar:
        try:
            result = run_benchmark(
                own,
                photos,
                backbone=backbone,
                methods=methods,
                measures=measures,
                boxes=boxes,
                regions=regions,
                images=images,
                slow_images=slow_images,
                slow=split_list(slow) or (),
                limits=limits,
                again_images=again_images,
                half=half,
                normalisation=normalisation,
                upsampling=upsampling,
                detail=detail,
                judge=judge,
                judge_weights=judge_weights,
                explainers=others,
                seed=seed,
                batch_size=batch_size,
                out=out,
                resume=resume,
                workers=pick_workers(workers, images or len(photos)) if jobs == 1 else workers or 0,
                device=place,
                jobs=jobs,
                part=part,
                progress=_progress(bar, "explanations"),
                report_progress=_progress(bar, "explanations for the report", visible=False),
                report=report,
                command=_command(sys.argv[1:]),
            )
        except KeyboardInterrupt:
            raise interrupted(out) from None
    if part is not None:
        say(f"part {part} is in {out}; when all are, run the command with --resume and no --part")
        return
    console = stdout()
    console.print(result.table(width=console.width))
    tell_left_out(result.broken)
    written = (out / REPORT).is_file()
    say(f"results in {out}{f', to be read in {REPORT}' if written else ''}")


def _progress(bar: Progress, name: str, visible: bool = True) -> Callable[[int, int], None]:
    """Return what shows the progress of one phase; one that is not visible is from then on."""
    lines = progress_lines(name)
    task = bar.add_task(name, total=None, visible=visible)

    def tell(done: int, total: int) -> None:
        bar.update(task, completed=done, total=total, visible=True)
        lines(done, total)

    return tell


def _load(
    folder: Path | None,
    model: str | None,
    weights: Path | None,
    multi_label: bool | None,
    device: str,
    force: bool,
) -> tuple[Explainer | None, Backbone]:
    """Load the explainer, or the classifier alone where a model but no explainer is given."""
    if folder is None and model is not None:
        from ttame.backbone.registry import load_backbone

        return None, load_backbone(model, weights, multi_label=multi_label)
    if multi_label is not None:
        raise InputError(
            "an explainer knows whether its classifier is a multi-label one; leave out "
            "--multi-label and --no-multi-label"
        )
    loaded = load_explainer(folder, model, weights, device, force)
    return loaded, loaded.backbone


def _also(folder: Path, backbone: Backbone, device: str, force: bool) -> Explainer:
    from ttame import storage

    return storage.load(folder, backbone=backbone, device=device, force=force)


def _command(arguments: Sequence[str]) -> str:
    """Return the command for the report, without what does not change the results.

    Example:
        >>> _command(["benchmark", "--data", "my photos", "--out", "a", "--resume", "--seed", "1"])
        "ttame benchmark --data 'my photos' --seed 1 --out DIR"
        >>> _command(["benchmark", "-j2", "-oa", "--data", "photos"])
        'ttame benchmark --data photos --out DIR'
    """
    kept, skip = [], 0
    for argument in arguments:
        name, equals, _ = argument.partition("=")
        value_attached = len(argument) > 2 and argument[:2] in _ELSEWHERE  # -j2
        if skip:
            skip -= 1
        elif value_attached:
            continue
        elif name in _ELSEWHERE:
            skip = 0 if equals else _ELSEWHERE[name]
        else:
            kept.append(argument)
    return shlex.join(["ttame", *kept, "--out", "DIR"])
