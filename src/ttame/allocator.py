"""Keep freed memory in the process: the system's allocator gives it back too eagerly."""

from __future__ import annotations

import ctypes
import os

# Numbers of glibc's malloc.h.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3
_MOST = 2**31 - 1
_OF_THE_USER = ("MALLOC_", "GLIBC_TUNABLES", "LD_PRELOAD")
# Older glibc refuses more than half a heap here.
_THRESHOLDS = (2**30, 32 * 2**20)


def keep_freed_memory() -> bool:
    """Let this process reuse the memory of freed tensors instead of giving it back every time.

    By default glibc takes large blocks from the system and returns them when they are freed, so
    that every feature map of every pass on a CPU costs thousands of page faults: up to half of the
    time of a convolutional classifier (``benchmarks/freed_memory.py``). The process then stays as
    large as it once was. Commands call this; a library must not decide it for the program that
    imports it. Nothing is done without glibc, and where the environment sets malloc's options or
    preloads another allocator.

    Returns:
        Whether the allocator was changed.
    """
    if any(name.startswith(_OF_THE_USER) for name in os.environ):
        return False
    try:
        library = ctypes.CDLL(None)
        library.gnu_get_libc_version  # noqa: B018  # only glibc has it
        mallopt = library.mallopt
    except (OSError, TypeError, AttributeError):
        return False
    if not any(mallopt(_MMAP_THRESHOLD, threshold) for threshold in _THRESHOLDS):
        return False
    return bool(mallopt(_TRIM_THRESHOLD, _MOST) and mallopt(_TOP_PAD, 64 * 2**20))
