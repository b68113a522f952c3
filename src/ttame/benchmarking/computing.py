"""Compute what no record tells of: all of it or a part, here or in processes of its own."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from ttame.benchmarking import collecting
from ttame.benchmarking.engine import compute
from ttame.benchmarking.parallel import compute_in_processes, placed, share_out
from ttame.benchmarking.parts import Part
from ttame.benchmarking.records import (
    NOT_POSSIBLE,
    RecordFile,
    read_records,
    record_path,
    worth_another_try,
)

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
    part: Part | None = None,
) -> None:
    """Compute the units that are missing or may succeed now, and write their records.

    Args:
        plan: Of the run.
        folder: Where the records are.
        jobs: Processes that share the work.
        device: Where to compute.
        workers: Processes that read photos.
        progress: Called with the numbers of explanations done and in total.
        part: Of the run's units, those that are computed; None takes all.

    Raises:
        StorageError: A record cannot be written or read.
        TtameError: A process died.
    """
    records = read_records(folder)
    kept = {u: r for u, r in records.items() if not worth_another_try(r)}
    impossible = [u.method for u, r in kept.items() if r.get("error", [""])[0] == NOT_POSSIBLE]
    wanted = units = list(plan.units())
    if part is not None:
        # Of all units, finished or not: no two of so many parts share any, whenever they start.
        wanted = share_out(units, part.total)[part.number - 1]
    mine = set(wanted)
    pending = [unit for unit in collecting.unfinished(plan, kept) if unit in mine]
    total = sum(map(plan.images, wanted))
    before = total - sum(map(plan.images, pending))

    def tell(done: int) -> None:
        if progress is not None:
            progress(before + done, total)

    tell(0)
    if jobs > 1 and len(pending) > 1:
        compute_in_processes(plan, pending, folder, jobs, device, workers, impossible, tell)
    elif pending:
        done = 0
        with closing(RecordFile(record_path(folder, part))) as file, placed(plan, device) as place:
            for unit, record in compute(plan, pending, place, workers, impossible, memory=True):
                if record is not None:
                    file.append(unit, record)
                done += plan.images(unit)
                tell(done)
