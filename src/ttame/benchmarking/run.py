"""The benchmark: every method, every measure, one classifier, the same photos, one call."""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import pandas as pd
import torch

from ttame.benchmarking import collecting, conventions
from ttame.benchmarking.benchmark_result import KEYS, BenchmarkResult
from ttame.benchmarking.choosing import (
    PAIR,
    check_limits,
    choose_measures,
    choose_methods,
    left_out,
    mark_slow,
    photo_set,
)
from ttame.benchmarking.computing import Progress, compute_missing
from ttame.benchmarking.engine import try_options
from ttame.benchmarking.float32 import whole_float32
from ttame.benchmarking.lock import in_turn, one_run
from ttame.benchmarking.marked import marked_set
from ttame.benchmarking.pairs import NO_PAIRS, pair_set
from ttame.benchmarking.parallel import logging_to, placed, threads_each
from ttame.benchmarking.parts import Part, parse_part
from ttame.benchmarking.plan import OWN, PhotoSet, Plan
from ttame.benchmarking.records import read_records
from ttame.benchmarking.report.page import NAME as REPORT
from ttame.benchmarking.report.page import write_report
from ttame.benchmarking.report.sheets import make_sheets
from ttame.benchmarking.settings import check_out, describe_settings, open_folder
from ttame.detail import check_detail
from ttame.errors import InputError, problem
from ttame.masking import check_upsampling
from ttame.methods.seeding import check_seed
from ttame.methods.ttame import rebound
from ttame.metrics.transfer import judge_columns
from ttame.normalisation import AS_GIVEN, check_normalisation

if TYPE_CHECKING:
    from ttame.backbone.contract import Backbone
    from ttame.explainer import Explainer
    from ttame.methods.registry import Method
    from ttame.metrics.measure import Measure

SLOW_IMAGES = 50

_log = logging.getLogger(__name__)

_SETTINGS = (
    "half",
    "normalisation",
    "upsampling",
    "detail",
    "batch_size",
    "slow_images",
    "limits",
    "again_images",
    "explainers",
    "methods",
)


@whole_float32()
def benchmark(
    explainer: Explainer | None = None,
    data: Any = (),
    backbone: Backbone | None = None,
    methods: Sequence[str | Method] | str | None = None,
    measures: Sequence[str | Measure] | str | None = None,
    boxes: str | Path | None = None,
    regions: str | Path | None = None,
    images: int | None = None,
    slow_images: int | None = None,
    slow: Collection[str] = (),
    limits: Mapping[str, int | None] | None = None,
    again_images: int | None = None,
    half: str = "all",
    normalisation: str = "minmax",
    upsampling: str = "bilinear",
    detail: float = 0.0,
    judge: Backbone | str | None = None,
    judge_weights: str | Path | None = None,
    explainers: Mapping[str, Explainer] | None = None,
    seed: int = 0,
    batch_size: int = 16,
    out: str | Path | None = None,
    resume: bool = False,
    workers: int = 0,
    device: str | torch.device | None = None,
    jobs: int = 1,
    part: str | None = None,
    progress: Progress | None = None,
    report_progress: Progress | None = None,
    command: str = "",
    report: bool = True,
) -> BenchmarkResult:
    """Score explanation methods on the same photos of one classifier, with honest statistics.

    What is finished is on disk: a run that was killed goes on with ``resume=True`` and gives the
    same results, bit for bit on the same machine with the same number of threads. The batch size
    moves values by rounding only, and a pixel or a photo that stands on the edge by as much. A
    method that this classifier cannot do, or that fails, is told in the result and does not stop
    the others.

    Args:
        explainer: Named ``"ttame"`` in the results; None with a ``backbone`` compares other
            methods only, None without one takes the explainer that ttame brings.
        data: Photos as :func:`ttame.images.listing.list_photos` takes them; labels are not used.
        backbone: The classifier, where there is no explainer.
        methods: Names of methods to compare with, or :class:`Method` objects; None takes all.
        measures: Names of measures or metrics, or :class:`Measure` objects; None takes all that
            can be taken.
        boxes: A CSV file of marked objects (:func:`ttame.images.boxes.read_boxes`) for the
            measures of localisation, which are taken on its photos.
        regions: A CSV file of segmentation masks (:func:`ttame.images.regions.read_regions`) for
            the measures of overlap; a photo may be marked in both files.
        images: How many photos to draw at random, and of those with marked objects; None takes all.
        slow_images: On how many of them slow methods and measures are scored; None takes 50.
        slow: Names of further methods and measures that shall count as slow.
        limits: By name, on how many photos a method is scored or a measure is taken, slow or not,
            instead of ``slow_images``; None for all of them.
        again_images: On how many photos slow methods are given to measures that explain again
            (stability, randomisation, ADCC); None takes a fifth of ``slow_images``.
        half: ``"all"``, or the photos of ``"choosing"`` or ``"reporting"`` only; see
            :func:`ttame.benchmarking.halves.half_of`.
        normalisation: How maps become masks in [0, 1]: ``"minmax"`` as in the paper,
            ``"positive"``, ``"magnitude"``, ``"clipped"`` or ``"ranks"``, see
            :mod:`ttame.normalisation`.
        upsampling: ``"bilinear"``, or ``"nearest"``: every cell of a map stays a rectangle of one
            value. An explainer that shows its masks in whole cells does so either way.
        detail: How much of the photo's edges is mixed into the masks of all methods but those that
            give masks, from 0 to 1, see :func:`ttame.detail.with_detail`. Explainers have theirs.
        judge: Another classifier that knows some of the classes, for the transfer score; itself or
            its source, as :func:`ttame.load_backbone` takes it.
        judge_weights: Weight file of a judge given by its source, instead of a download.
        explainers: Further explainers of the same classifier, by the names they get.
        seed: Of the order of photos, ties, bootstrap and permutations.
        batch_size: Photos per batch and most images per forward pass.
        out: Folder for the results; None writes nothing.
        resume: Continue the run in ``out``, if there is one.
        workers: Processes that read photos.
        device: Where to compute; everything returns to its own device afterwards.
        jobs: Processes that share the work, on several GPUs each on its own.
        part: ``"2/8"`` computes the second of eight parts and nothing else, while other processes
            or machines that see ``out`` compute the others, in any order. The result has no values
            then: the same call without it, with ``resume=True``, computes what is missing and
            returns them.
        progress: Called with the numbers of explanations done and in total.
        report_progress: The same of the photos that the report shows, which are explained again.
        command: How the run was started, for the report.
        report: Write ``report.html`` into ``out`` too; a few photos are explained again for it.

    Returns:
        Every image's values, means, curves, comparisons and times.

    Raises:
        InputError: An argument or option is out of range, ``out`` is taken or another run writes
            there, or its run had other settings.
        ImageError: No photo can be read.
        StorageError: ``out`` cannot be written.
        TtameError: A process died; what was finished is kept.
    """
    folder = None if out is None else Path(out)
    mine = _part(part, folder, jobs)
    if folder is not None:
        check_out(folder, resume, part=mine)
    counts = {
        "jobs": jobs,
        "batch_size": batch_size,
        "slow_images": slow_images,
        "again_images": again_images,
    }
    for name, count in counts.items():
        if count is not None and count < 1:
            raise InputError(f"expected {name} of at least 1, got {count}")
    check_seed(seed)
    check_normalisation(normalisation)
    if normalisation == AS_GIVEN:
        raise InputError(
            f"the normalisation {AS_GIVEN!r} belongs to methods that give masks; choose another "
            "one for a run"
        )
    check_upsampling(upsampling)
    check_detail(detail)
    own, classifier = _subject(explainer, backbone, explainers or {})
    given = (boxes is not None, judge is not None, regions is not None)
    taken, others = mark_slow(slow, choose_measures(measures, *given), choose_methods(methods, own))
    check_limits(limits or {}, taken, others, own)
    missing = left_out(taken, others, own, *given)
    drawn = (classifier, taken, half, seed, images)
    sets = [photo_set(data, *drawn)]
    if boxes is not None or regions is not None:
        sets.append(marked_set(boxes, regions, *drawn))
    plan = Plan(
        backbone=classifier,
        sets=tuple(item for item in sets if item.measures),
        others=others,
        explainers=own,
        batch_size=batch_size,
        slow_images=SLOW_IMAGES if slow_images is None else slow_images,
        limits=dict(limits or {}),
        again_images=again_images,
        seed=seed,
        judge=_judge(judge, judge_weights, classifier),
        half=half,
        normalisation=normalisation,
        upsampling=upsampling,
        detail=detail,
    )
    place = str(device or next(classifier.parameters()).device)
    start = time.perf_counter()
    with placed(plan, place) as there:
        if any(PAIR & set(item.needs) for item in taken):
            plan = _with_pairs(plan, sets[0], taken, workers)
        collecting.plan_metrics(plan)  # refuses metrics of the same name
        try_options(plan, there)
    with _folder(folder) as work, one_run(work, mine):
        settings = describe_settings(plan, place)
        with nullcontext() if mine is None else in_turn(work):
            content = open_folder(work, settings, resume or mine is not None, command)
        with logging_to(work):
            for name in sorted({m.name for m in taken} - set(collecting.plan_measures(plan))):
                _log.warning("the measure %s is left out: %s", name, NO_PAIRS)
                missing[name] = NO_PAIRS
            compute_missing(plan, work, jobs, place, workers, progress, mine)
        if mine is not None:
            return BenchmarkResult(pd.DataFrame(columns=KEYS), methods={}, metrics={})
        result = _result(plan, content, read_records(work), missing)
        result.timings.update(
            last_call_seconds=time.perf_counter() - start,
            device=place,
            threads=threads_each(jobs),
            jobs=jobs,
        )
        if folder is not None:
            result.save(folder)
            if report:
                _report(result, plan, folder, torch.device(place), report_progress)
    return result


def _part(text: str | None, folder: Path | None, jobs: int) -> Part | None:
    if text is None:
        return None
    if folder is None or jobs > 1:
        raise InputError(
            f"the part {text!r} needs a folder that all parts share (out, --out) and one process "
            "(no jobs, --jobs); give each process a part of its own"
        )
    return parse_part(text)


def _subject(
    explainer: Explainer | None, backbone: Backbone | None, others: Mapping[str, Explainer]
) -> tuple[dict[str, Explainer], Backbone]:
    """Return the explainers by name and the classifier that all of them explain."""
    if explainer is None and backbone is None and not others:
        from ttame.storage import load

        explainer = load()
    if OWN in others:
        raise InputError(f"the name {OWN!r} belongs to the explainer; name the other one otherwise")
    explainers = {**({} if explainer is None else {OWN: explainer}), **others}
    if backbone is None:
        backbone = next(iter(explainers.values())).backbone
    for name, item in explainers.items():
        identity = item.backbone.identity
        if identity.fingerprint != backbone.identity.fingerprint:
            raise InputError(
                f"the explainer {name!r} explains {identity.name} with fingerprint "
                f"{identity.fingerprint[:12]}, the classifier here is {backbone.identity.name} "
                f"with {backbone.identity.fingerprint[:12]}; compare explainers of one classifier"
            )
    # Passes are counted at one classifier, and all explain that one.
    return {
        name: item if item.backbone.module is backbone.module else rebound(item, backbone)
        for name, item in explainers.items()
    }, backbone


def _judge(
    judge: Backbone | str | None, weights: str | Path | None, backbone: Backbone
) -> Backbone | None:
    if weights is not None and not isinstance(judge, str):
        raise InputError(
            f"the weights {str(weights)!r} are of no judge; name the judge that they belong to "
            "(judge=..., --judge)"
        )
    if judge is None:
        return None
    if isinstance(judge, str):
        from ttame.backbone.registry import load_backbone

        judge = load_backbone(judge, weights, multi_label=backbone.activation == "sigmoid")
    judge_columns(backbone, judge)  # refuses one that does not know the classes
    if judge.identity.fingerprint == backbone.identity.fingerprint:
        raise InputError(
            f"expected another classifier as judge, got {judge.identity.name} itself; a mask that "
            "works on one classifier only would not be found out"
        )
    return judge


def _with_pairs(plan: Plan, photos: PhotoSet, taken: Sequence[Measure], workers: int) -> Plan:
    pairs = pair_set(photos, plan.backbone, taken, plan.seed, plan.batch_size, workers)
    if pairs is None and not plan.sets:
        raise InputError(
            f"the measure pairs cannot be taken: {NO_PAIRS}; give other photos or other measures"
        )
    return plan if pairs is None else replace(plan, sets=(*plan.sets, pairs))


def _result(
    plan: Plan,
    content: Mapping[str, Any],
    records: Mapping[Any, Any],
    missing: Mapping[str, str],
) -> BenchmarkResult:
    collecting.check_finished(plan, records)
    settings = content["settings"]
    judged = {} if plan.judge is None else {"judge": settings["judge"]}
    provenance = {
        "classifier": settings["classifier"],
        **judged,
        "data": settings["data"],
        "versions": settings["versions"],
        "command": content.get("command", ""),
        "left_out": dict(missing),
        "settings": {name: settings[name] for name in _SETTINGS},
    }
    return collecting.make_result(plan, records, conventions.BENCHMARK, provenance)


def _report(
    result: BenchmarkResult,
    plan: Plan,
    folder: Path,
    device: torch.device,
    progress: Progress | None,
) -> None:
    # A page of before must not stand beside new numbers.
    (folder / REPORT).unlink(missing_ok=True)
    try:
        with placed(plan, device):
            held = [photo for photo_set in plan.sets for photo in photo_set.photos if photo.read]
            sheets = make_sheets(result, plan.backbone, plan.methods, held=held, progress=progress)
        write_report(result, folder, *sheets)
    except Exception as error:
        # The numbers are safe; a picture that fails must not take them away.
        _log.warning("the report could not be written: %s", problem(error), exc_info=True)


@contextmanager
def _folder(out: Path | None) -> Iterator[Path]:
    if out is not None:
        yield out
        return
    with TemporaryDirectory(prefix="ttame-") as folder:
        yield Path(folder)
