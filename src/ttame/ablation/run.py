"""``ttame.ablate``: trainings that differ in one part, scored on the same photos."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ttame.ablation.cell import is_finished, run_cell
from ttame.ablation.config import AblationConfig, parse_config, read_config
from ttame.ablation.parallel import LOG, run_in_processes
from ttame.ablation.plan import AblationPlan, plan_ablation
from ttame.ablation.result import AblationResult, collect
from ttame.benchmarking.lock import one_run
from ttame.benchmarking.parallel import logging_to
from ttame.benchmarking.settings import check_out, open_folder
from ttame.errors import InputError

KIND = "ablation"

Progress = Callable[[str, int, int], None]


def ablate(
    config: AblationConfig | str | Path | dict[str, Any],
    out: str | Path,
    *,
    resume: bool = False,
    jobs: int = 1,
    device: str | None = None,
    progress: Progress | None = None,
    show_training: bool = False,
    command: str = "",
) -> AblationResult:
    """Train every cell of an ablation and score all of them on the same photos.

    All cells are checked before the first is trained. A cell that fails is told in the result and
    does not stop the others. What is finished is on disk: a run that was killed goes on with
    ``resume=True``; finished cells are kept, one that was cut off continues its training, one that
    failed is tried again, and new cells may have been added.

    Args:
        config: A YAML file, its content, or a configuration.
        out: Folder for everything: ``cells/NAME/`` with explainer and scores, ``ablation.csv``,
            ``ablation.json``, ``ablation.md`` and ``ablation.png``.
        resume: Continue the ablation in ``out``, if there is one.
        jobs: Processes that each train a cell, on several GPUs each on its own.
        device: Where to compute, instead of the settings' device.
        progress: Called with a cell's name, how many are finished and how many there are, before
            each cell and, with the name ``""``, after the last.
        show_training: Show every training's own progress bar; with one process only.
        command: How the run was started, for ``settings.json``.

    Returns:
        Scores, intervals and differences from the base of all cells.

    Raises:
        InputError: The configuration is wrong, another run writes into ``out``, or it holds an
            ablation with other settings.
        BackboneError: The classifier cannot be loaded, or a cell does not fit it.
        TrainingError: There are too few photos.
        StorageError: ``out`` cannot be written.
        TtameError: A process died; what was finished is kept.
    """
    if isinstance(config, str | Path):
        config = read_config(config)
    elif not isinstance(config, AblationConfig):
        config = parse_config(config)
    if jobs < 1:
        raise InputError(f"expected at least one job, got {jobs}")
    out = Path(out)
    check_out(out, resume, KIND)
    plan = plan_ablation(config, out, device)
    with one_run(out):
        open_folder(out, plan.describe(), resume, command, KIND)
        for cell in plan.cells:
            # Always resumed: only cells whose settings changed are refused, before any is trained.
            open_folder(cell.folder, cell.describe(), True, "", f"cell {cell.cell.name!r}")
        with logging_to(out, LOG):
            _run(plan, jobs, device, progress, show_training)
        result = collect(plan)
        result.save(out)
    return result


def _run(
    plan: AblationPlan, jobs: int, device: str | None, progress: Progress | None, show: bool
) -> None:
    pending = [cell for cell in plan.cells if not is_finished(cell.folder)]
    total, finished = len(plan.cells), len(plan.cells) - len(pending)

    def tell(name: str, done: int) -> None:
        if progress is not None:
            progress(name, finished + done, total)

    if jobs > 1 and len(pending) > 1:
        run_in_processes(plan, pending, jobs, device, tell)
    else:
        for done, cell in enumerate(pending):
            tell(cell.cell.name, done)
            run_cell(cell, plan.photos, plan.eval_photos, plan.seed, device, show)
    tell("", len(pending))
