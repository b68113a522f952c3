"""Compute what no record tells of: all of it or a part, here or in processes of its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from ttame.benchmarking import collecting
from ttame.benchmarking.parallel import compute_in_processes, compute_into, placed, share_out
from ttame.benchmarking.parts import Part
from ttame.benchmarking.records import NOT_POSSIBLE, read_records, record_path, worth_another_try

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
    wanted = list(plan.units())
    if part is not None:
        # Of all units, finished or not: no two of so many parts share any, whenever they start.
        wanted = share_out(wanted, part.total)[part.number - 1]
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
        done, path = 0, record_path(folder, part)
        with placed(plan, device) as place:
            for images in compute_into(path, plan, pending, place, workers, impossible):
                done += images
                tell(done)
