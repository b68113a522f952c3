"""Several processes over the units of one run, each with its own file of records."""

from __future__ import annotations

import logging
import multiprocessing
import os
import pickle
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ttame.allocator import keep_freed_memory
from ttame.benchmarking.engine import compute
from ttame.benchmarking.float32 import whole_float32
from ttame.benchmarking.lock import end_with_parent
from ttame.benchmarking.records import RecordFile, Unit, record_path
from ttame.errors import InputError, TtameError

if TYPE_CHECKING:
    from ttame.benchmarking.plan import Plan

LOG = "benchmark.log"

_log = logging.getLogger(__name__)


def share_out(units: Sequence[Unit], jobs: int) -> list[list[Unit]]:
    """Give each process its units: every method on about as many batches everywhere.

    Example:
        >>> units = [Unit("photos", batch, name) for batch in (0, 1) for name in "ab"]
        >>> [[unit.batch, unit.method] for unit in share_out(units, 2)[0]]
        [[0, 'a'], [1, 'b']]
    """
    shares: list[list[Unit]] = [[] for _ in range(jobs)]
    # The next share of each method; the first ones differ, for slow methods not to meet.
    following: dict[str, int] = {}
    for unit in units:
        turn = following.setdefault(unit.method, len(following))
        shares[turn % jobs].append(unit)
        following[unit.method] = turn + 1
    return shares


def threads_each(jobs: int) -> int:
    """Return how many threads each of so many processes gets, at least one."""
    return max(1, torch.get_num_threads() // jobs)


def compute_into(
    path: Path,
    plan: Plan,
    units: Sequence[Unit],
    place: torch.device,
    workers: int,
    impossible: Sequence[str],
) -> Iterator[int]:
    """Compute units and write their records, yielding the number of photos of each.

    Raises:
        StorageError: A record cannot be written.
    """
    with closing(RecordFile(path)) as file:
        for unit, record in compute(plan, units, place, workers, impossible, memory=True):
            if record is not None:
                file.append(unit, record)
            yield plan.images(unit)


def compute_in_processes(
    plan: Plan,
    units: Sequence[Unit],
    folder: Path,
    jobs: int,
    device: str,
    workers: int,
    impossible: Sequence[str],
    progress: Callable[[int], None],
) -> None:
    """Compute units in ``jobs`` processes and wait for them.

    Each has its share of the threads, and on several GPUs each has its own. What a process
    finished is on disk even if another one dies.

    Args:
        plan: Its classifier is still where it was loaded.
        units: What to compute.
        folder: Of the run.
        jobs: How many processes.
        device: For example ``"cuda"``.
        workers: Processes that read photos, for each process.
        impossible: Methods whose units are passed over.
        progress: Called now and then with the number of photos done.

    Raises:
        InputError: The classifier or a method cannot be sent to another process.
        TtameError: A process died.
    """
    try:
        content = pickle.dumps(plan)
    except Exception as error:
        raise InputError(
            "the classifier or a method cannot be sent to another process "
            f"({type(error).__name__}: {error}); use jobs=1, or define it in a module"
        ) from error
    context = multiprocessing.get_context("spawn")
    threads = threads_each(jobs)
    done = context.Array("q", jobs, lock=False)
    processes = []
    for rank, share in enumerate(share_out(units, jobs)):
        settings = (rank, _place(device, rank), threads, workers, tuple(impossible))
        process = context.Process(
            target=_work, args=(content, share, folder, done, settings), name=f"ttame-{rank}"
        )
        process.start()
        processes.append(process)
    try:
        while any(process.is_alive() for process in processes):
            for process in processes:
                process.join(timeout=0.2)
            progress(sum(done))
    finally:
        for process in processes:
            if process.is_alive():
                process.terminate()
            process.join()
    dead = [process for process in processes if process.exitcode]
    if dead:
        raise TtameError(
            f"{len(dead)} of {jobs} processes ended early (exit code {dead[0].exitcode}; "
            f"{folder / LOG} may tell why); run the same command with --resume, and with fewer "
            "jobs if the memory was too small"
        )


def _work(
    content: bytes, units: Sequence[Unit], folder: Path, done: Any, settings: tuple[Any, ...]
) -> None:
    rank, device, threads, workers, impossible = settings
    start_process(threads)
    place = torch.device(device)
    with logging_to(folder), whole_float32():
        try:
            plan: Plan = pickle.loads(content)
            move(plan, place)
            path = record_path(folder, rank)
            for images in compute_into(path, plan, units, place, workers, impossible):
                done[rank] += images
        except Exception:
            _log.exception("process %d stopped", rank)
            raise


def start_process(threads: int) -> None:
    """Prepare a process of a run, before it does anything else.

    Args:
        threads: Its share, for torch and, by the environment, for what else it starts.
    """
    end_with_parent()
    keep_freed_memory()
    torch.set_num_threads(threads)
    os.environ["OMP_NUM_THREADS"] = str(threads)


def move(plan: Plan, device: torch.device | str) -> None:
    """Move everything that computes to a device."""
    plan.backbone.to(device)
    for explainer in plan.explainers.values():
        explainer.to(device)
    if plan.judge is not None:
        plan.judge.to(device)


@contextmanager
def placed(plan: Plan, device: torch.device | str) -> Iterator[torch.device]:
    """Move everything that computes to a device, and back afterwards."""
    modules = [plan.backbone, *plan.explainers.values()]
    modules += [] if plan.judge is None else [plan.judge]
    homes = [next(module.parameters(), torch.zeros(0)).device for module in modules]
    try:
        move(plan, device)
        yield torch.device(device)
    finally:
        for module, home in zip(modules, homes, strict=True):
            module.to(home)


@contextmanager
def logging_to(folder: Path, name: str = LOG) -> Iterator[None]:
    """Let warnings and tracebacks of the library also go to a file of the run."""
    handler = logging.FileHandler(folder / name, delay=True, encoding="utf-8")
    handler.setLevel(logging.WARNING)
    handler.setFormatter(logging.Formatter("%(asctime)s %(process)d %(levelname)s %(message)s"))
    logger = logging.getLogger("ttame")
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        handler.close()


def _place(device: str, rank: int) -> str:
    if device == "cuda" and torch.cuda.device_count() > 1:
        return f"cuda:{rank % torch.cuda.device_count()}"
    return device
