"""Cells in several processes, on several GPUs each on its own."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from typing import TYPE_CHECKING, Any

import torch

from ttame.ablation.cell import run_cell
from ttame.benchmarking.parallel import logging_to, start_process
from ttame.errors import TtameError

if TYPE_CHECKING:
    from ttame.ablation.cell import Outcome
    from ttame.ablation.plan import AblationPlan, CellPlan

LOG = "ablation.log"
_RANK = "TTAME_ABLATION_RANK"


def run_in_processes(
    plan: AblationPlan,
    pending: Sequence[CellPlan],
    jobs: int,
    device: str | None,
    tell: Callable[[str, int], None],
) -> None:
    """Run cells in processes, each with its share of the threads.

    Args:
        plan: The photos and the seed.
        pending: The cells to run.
        jobs: How many at a time.
        device: See :func:`ttame.ablation.cell.run_cell`.
        tell: Called with a cell's name and the number of finished ones whenever one ends.

    Raises:
        TtameError: A process died, or the classifier cannot be sent to one.
    """
    context = multiprocessing.get_context("spawn")
    ranks = context.Queue()
    for rank in range(jobs):
        ranks.put(rank)
    threads = max(1, torch.get_num_threads() // jobs)
    pool = ProcessPoolExecutor(jobs, context, _start, (ranks, threads))
    try:
        shared = (plan.photos, plan.eval_photos, plan.seed, device)
        futures = {pool.submit(_work, cell, *shared): cell.cell.name for cell in pending}
        for done, future in enumerate(as_completed(futures), start=1):
            future.result()
            tell(futures[future], done)
    except BrokenProcessPool:
        raise TtameError(
            "a process ended early; run the same command with --resume, and with fewer jobs if the "
            "memory was too small"
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


def _start(ranks: Any, threads: int) -> None:
    start_process(threads)
    os.environ[_RANK] = str(ranks.get())


def _work(cell: CellPlan, photos: Any, eval_photos: Any, seed: int, device: str | None) -> Outcome:
    wanted = str(cell.config.device if device is None else device)
    if wanted in ("auto", "cuda") and torch.cuda.is_available():
        device = f"cuda:{int(os.environ[_RANK]) % torch.cuda.device_count()}"
    with logging_to(cell.folder.parents[1], LOG):
        return run_cell(cell, photos, eval_photos, seed, device)
