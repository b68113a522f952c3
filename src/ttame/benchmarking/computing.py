"""Compute what no record tells of: here, in processes of our own, or in those of torchrun."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ttame.benchmarking import collecting
from ttame.benchmarking.engine import compute
from ttame.benchmarking.parallel import compute_in_processes, placed, share_out
from ttame.benchmarking.records import (
    NOT_POSSIBLE,
    RecordFile,
    Unit,
    read_records,
    record_path,
    worth_another_try,
)
from ttame.benchmarking.world import World

if TYPE_CHECKING:
    from ttame.benchmarking.plan import Plan

Progress = Callable[[int, int], None]


def compute_missing(
    plan: Plan,
    folder: Path,
    jobs: int,
    device: str,
    workers: int,
    progress: Progress | None,
    together: World,
) -> None:
    """Compute the units that are missing or may succeed now, and write their records.

    Args:
        plan: Of the run.
        folder: Where the records are.
        jobs: Processes to start; 1 where torchrun has started some.
        device: Of this process.
        workers: Processes that read photos.
        progress: Called with the numbers of explanations done and in total; of several processes
            of torchrun, as the first one's share lets expect.
        together: The processes of torchrun; returns when all of them are done.

    Raises:
        StorageError: A record cannot be written or read.
        TtameError: A process died.
    """
    # Others may already be writing when the last one reads, so one decides for all.
    pending, impossible = together.agreed(_missing(plan, folder))
    total = sum(map(plan.images, plan.units()))
    left = sum(map(plan.images, pending))

    def tell(done: int) -> None:
        if progress is not None:
            progress(total - left + done, total)

    tell(0)
    if together.size > 1:
        share = share_out(pending, together.size)[together.rank]
        scale = left / max(1, sum(map(plan.images, share)))
        path = record_path(folder, together.rank)
        _compute_here(
            plan, share, path, device, workers, impossible, lambda done: tell(int(done * scale))
        )
        together.wait()
    elif jobs > 1 and len(pending) > 1:
        compute_in_processes(plan, pending, folder, jobs, device, workers, impossible, tell)
    elif pending:
        _compute_here(plan, pending, record_path(folder), device, workers, impossible, tell)


def _missing(plan: Plan, folder: Path) -> tuple[list[Unit], list[str]]:
    """Return the units to compute, and the methods known to be impossible."""
    records = read_records(folder)
    kept = {u: r for u, r in records.items() if not worth_another_try(r)}
    impossible = [u.method for u, r in kept.items() if r.get("error", [""])[0] == NOT_POSSIBLE]
    return collecting.unfinished(plan, kept), impossible


def _compute_here(
    plan: Plan,
    units: Sequence[Unit],
    path: Path,
    device: str,
    workers: int,
    impossible: Sequence[str],
    tell: Callable[[int], None],
) -> None:
    file = RecordFile(path)
    done = 0
    with placed(plan, device) as place:
        for unit, record in compute(plan, units, place, workers, impossible, memory=True):
            if record is not None:
                file.append(unit, record)
            done += plan.images(unit)
            tell(done)
    file.close()
