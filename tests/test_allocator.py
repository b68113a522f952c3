from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

glibc_only = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc")

# Touches blocks of 40 MB one after the other, each freed before the next, and counts page faults.
FAULTS = """
import ctypes, resource
from ttame.allocator import keep_freed_memory
library = ctypes.CDLL(None)
library.malloc.restype, library.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
library.free.argtypes = [ctypes.c_void_p]
changed = keep_freed_memory()
def faults(times):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(times):
        block = library.malloc(40 * 2**20)
        ctypes.memset(block, 1, 40 * 2**20)
        library.free(block)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
faults(1)
print(changed, faults(4) < 4096)
"""


def run(**variables: str) -> str:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    done = subprocess.run(
        [sys.executable, "-c", FAULTS], env=kept | variables, capture_output=True, check=True
    )
    return done.stdout.decode().strip()


@glibc_only
def test_freed_blocks_are_used_again_without_page_faults() -> None:
    assert run() == "True True"


@glibc_only
def test_the_settings_of_the_user_come_first() -> None:
    assert run(MALLOC_TOP_PAD_="0") == "False False"


def test_without_glibc_nothing_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    from ttame import allocator

    for name in [name for name in os.environ if name.startswith("MALLOC_")]:
        monkeypatch.delenv(name)
    monkeypatch.setattr(allocator.ctypes, "CDLL", lambda _: object())

    assert allocator.keep_freed_memory() is False
