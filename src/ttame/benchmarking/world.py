"""The processes of torchrun that share one run, on one machine or on several with a common disk."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import NamedTuple, TypeVar

import torch.distributed as dist

Content = TypeVar("Content")

# A process may be done hours before the others; one that dies ends all of them through torchrun.
_PATIENCE = timedelta(days=30)


class World(NamedTuple):
    """This process' place among those that torchrun started.

    Attributes:
        rank: Number of this process.
        size: How many there are; 1 without torchrun.
        local_rank: Its number on its own machine, which is also that of its GPU.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0

    @property
    def first(self) -> bool:
        """Whether this process writes what all have found, and talks."""
        return self.rank == 0

    @contextmanager
    def meeting(self) -> Iterator[None]:
        """Let the processes find each other; what another library has set up stays."""
        if self.size == 1 or dist.is_initialized():
            yield
            return
        dist.init_process_group("gloo", timeout=_PATIENCE)
        try:
            yield
        finally:
            dist.destroy_process_group()

    def agreed(self, content: Content) -> Content:
        """Return what the first process has; every process must call this."""
        if self.size == 1:
            return content
        box = [content]
        dist.broadcast_object_list(box, src=0)
        return box[0]

    def wait(self) -> None:
        """Wait until every process has come as far as this."""
        if self.size > 1:
            dist.barrier()


def world() -> World:
    """Return this process' place, as torchrun tells it in the environment.

    Example:
        >>> world()
        World(rank=0, size=1, local_rank=0)
    """
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return World()
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
    return World(*(int(os.environ[name]) for name in names))
