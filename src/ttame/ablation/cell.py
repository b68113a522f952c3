"""One cell: trained, scored and written down; continued where it was cut off."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ttame.benchmarking.benchmark_result import write_json
from ttame.benchmarking.evaluation import evaluate
from ttame.benchmarking.scoring import free_memory
from ttame.errors import problem
from ttame.training.data import automatic_workers
from ttame.training.precision import pick_accelerator
from ttame.training.run import LAST, train

if TYPE_CHECKING:
    from ttame.ablation.plan import CellPlan
    from ttame.explainer import Explainer
    from ttame.images.listing import Photo

DONE, COLLAPSED, FAILED = "done", "collapsed", "failed"
EXPLAINER, SCORES = "explainer", "scores"
_OUTCOME = "cell.json"

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Outcome:
    """How a cell ended.

    Attributes:
        status: ``"done"``, ``"collapsed"`` (scored, but its maps explain nothing) or ``"failed"``
            (no scores).
        reason: Why it collapsed or failed.
        parameters: Of the attention mechanism; 0 where there is none.
        seconds: Of the training up to the epoch that was kept.
        epoch: The epoch that was kept, counted from 1; 0 is the untrained start.
    """

    status: str
    reason: str = ""
    parameters: int = 0
    seconds: float = 0.0
    epoch: int = 0


def read_outcome(folder: Path) -> Outcome | None:
    """Return how the cell in a folder ended; None where it did not, or not readably."""
    try:
        return Outcome(**json.loads((folder / _OUTCOME).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def is_finished(folder: Path) -> bool:
    """Tell whether a cell needs nothing more; one that failed is tried again."""
    outcome = read_outcome(folder)
    return outcome is not None and outcome.status != FAILED


def run_cell(
    plan: CellPlan,
    photos: Sequence[Photo],
    eval_photos: Sequence[Photo],
    seed: int,
    device: str | None = None,
    show: bool = False,
) -> Outcome:
    """Train a cell, or go on with its training, score it, and write down how it ended.

    Whatever goes wrong with it is its outcome, not an error.

    Args:
        plan: The cell.
        photos: To train on.
        eval_photos: To score on.
        seed: Of the scores.
        device: Where to compute, instead of the settings' device.
        show: Show the training's progress bar.
    """
    device = str(plan.config.device if device is None else device)
    try:
        explainer = _trained(plan, photos, device, show)
        evaluate(
            explainer,
            eval_photos,
            methods=(),
            workers=_workers(plan, len(eval_photos)),
            seed=seed,
            out=plan.folder / SCORES,
            device=_place(device),
        )
        outcome = _outcome(explainer)
    except Exception as error:  # one cell must not take the others with it
        _log.warning("cell %r failed: %s", plan.cell.name, problem(error), exc_info=True)
        outcome = Outcome(FAILED, problem(error))
    free_memory()
    write_json(plan.folder / _OUTCOME, asdict(outcome))
    return outcome


def _trained(plan: CellPlan, photos: Sequence[Photo], device: str, show: bool) -> Explainer:
    folder = plan.folder / EXPLAINER
    resume = (folder / "training" / LAST).is_file()
    return train(
        plan.backbone,
        photos,
        folder,
        plan.cell.preset,
        resume=resume,
        # A training that was cut off in its first epoch may have left an explainer.
        overwrite=not resume,
        progress=show,
        **{**plan.cell.settings, "device": device},
    )


def _outcome(explainer: Explainer) -> Outcome:
    training = explainer.provenance["training"]
    collapse = training["collapse"]
    return Outcome(
        status=COLLAPSED if collapse else DONE,
        reason="; ".join(collapse),
        parameters=sum(parameter.numel() for parameter in explainer.attention.parameters()),
        seconds=training["seconds"],
        epoch=training["epoch"],
    )


def _place(device: str) -> str:
    if device != "auto":
        return device
    return "cuda" if pick_accelerator(device)[0] == "gpu" else "cpu"


def _workers(plan: CellPlan, photos: int) -> int:
    if plan.config.workers >= 0:
        return plan.config.workers
    return automatic_workers() if photos > 64 else 0
