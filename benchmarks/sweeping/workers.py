"""A process for the models: none that crashes, fills the memory or hangs ends the sweep."""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import queue
import threading
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict
from multiprocessing.connection import Connection
from typing import Any

import torch

from sweeping.catalogue import Entry

Check = Callable[[Entry], dict[str, Any]]

# Importing the libraries may take this long on a busy machine.
START_SECONDS = 600


class Worker:
    """Checks one model after the other in a process, which is replaced when one ends it.

    Args:
        check: Gives the record of a model.
        seconds: Time limit of a model; the start of the process does not count.
        gigabytes: Memory that the process may take, where the system can limit it.
    """

    def __init__(self, check: Check, seconds: float, gigabytes: float) -> None:
        self._check = check
        self.seconds = seconds
        self.gigabytes = gigabytes
        self._context = multiprocessing.get_context("spawn")
        self._process: Any = None
        self._connection: Connection | None = None

    def check(self, entry: Entry) -> dict[str, Any]:
        """Return the record of a model, whatever becomes of it."""
        try:
            connection = self._connection or self._start()
            connection.send(entry)
            if connection.poll(self.seconds):
                record: dict[str, Any] = connection.recv()
                return record
            reason = f"not finished after {self.seconds:g} s"
        except (EOFError, OSError):
            self._process.join(10)
            reason = f"the process ended with code {self._process.exitcode}"
        self.close()
        return {**asdict(entry), "outcome": "failed", "stage": "process", "reason": reason}

    def _start(self) -> Connection:
        self._connection, theirs = self._context.Pipe()
        self._process = self._context.Process(
            target=serve, args=(theirs, self._check, self.gigabytes), daemon=True
        )
        self._process.start()
        theirs.close()
        if not self._connection.poll(START_SECONDS):
            raise EOFError
        self._connection.recv()
        return self._connection

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.kill()
            self._process.join()
        if self._connection is not None:
            self._connection.close()
        self._process = self._connection = None


def serve(connection: Connection, check: Check, gigabytes: float) -> None:
    """Check models until the other end is closed; runs in the worker's process."""
    _limit_memory(gigabytes)
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    connection.send("ready")
    with contextlib.suppress(EOFError, OSError):
        while True:
            connection.send(check(connection.recv()))


def _limit_memory(gigabytes: float) -> None:
    try:
        import resource
    except ImportError:  # not on this system
        return
    most = int(gigabytes * 2**30)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_DATA, (most, most))


def check_all(
    entries: Sequence[Entry],
    write: Callable[[dict[str, Any]], None],
    workers: Sequence[Worker],
) -> None:
    """Let the workers check all models, in order; ``write`` gets each record."""
    waiting: queue.SimpleQueue[Entry] = queue.SimpleQueue()
    for entry in entries:
        waiting.put(entry)
    lock = threading.Lock()

    def work(worker: Worker) -> None:
        try:
            while True:
                record = worker.check(waiting.get_nowait())
                with lock:
                    write(record)
        except queue.Empty:
            worker.close()

    started = [threading.Thread(target=work, args=[worker], daemon=True) for worker in workers]
    for thread in started:
        thread.start()
    for thread in started:
        thread.join()
