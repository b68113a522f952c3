"""Which device and number format a training uses on this machine."""

from __future__ import annotations

import torch

from ttame.errors import InputError, unknown_name

PRECISIONS = (
    "auto",
    "bf16-mixed",
    "16-mixed",
    "32-true",
    "64-true",
    "bf16-true",
    "16-true",
    "bf16",
    "16",
    "32",
    "64",
)


def pick_accelerator(device: str) -> tuple[str, list[int] | str | int]:
    """Turn a device name into lightning's accelerator and devices.

    Raises:
        InputError: The device is not on this machine.

    Example:
        >>> pick_accelerator("cpu")
        ('cpu', 1)
    """
    if device == "auto":
        return ("gpu", 1) if torch.cuda.is_available() else ("cpu", 1)
    wanted: torch.device | None
    try:
        wanted = torch.device(device)
    except RuntimeError:
        wanted = None
    if wanted is None or wanted.type not in ("cpu", "cuda", "mps"):
        raise InputError(f"unknown device {device!r}; use 'auto', 'cpu', 'cuda' or 'mps'")
    if wanted.type == "cuda" and not torch.cuda.is_available():
        raise InputError(f"device {device!r} was asked for and no CUDA GPU is available")
    if wanted.type == "cuda" and (wanted.index or 0) >= torch.cuda.device_count():
        raise InputError(
            f"device {device!r} was asked for and there are {torch.cuda.device_count()} CUDA GPUs, "
            "counted from 0"
        )
    if wanted.type == "mps" and not torch.backends.mps.is_available():
        raise InputError(f"device {device!r} was asked for and no Apple GPU is available")
    if wanted.type == "cuda":
        return "gpu", [wanted.index] if wanted.index is not None else 1
    return wanted.type, 1


def pick_precision(precision: str, accelerator: str) -> str:
    """Return lightning's precision; ``"auto"`` takes bfloat16 only where it is computed natively.

    A CPU without bfloat16 instructions emulates them many times slower than float32 runs.

    Raises:
        UnknownNameError: There is no precision of that name.
    """
    if precision not in PRECISIONS:
        raise unknown_name("precision", precision, PRECISIONS)
    if precision != "auto":
        return precision
    if accelerator == "gpu":
        return "bf16-mixed" if torch.cuda.is_bf16_supported() else "16-mixed"
    return "bf16-mixed" if accelerator == "cpu" and cpu_computes_bf16() else "32-true"


def cpu_computes_bf16() -> bool:
    """Say whether this processor has bfloat16 matrix instructions (AVX-512 BF16 or AMX, ARM)."""
    checks = ("_is_avx512_bf16_supported", "_is_amx_tile_supported", "_is_arm_bf16_supported")
    return any(bool(getattr(torch.cpu, check, bool)()) for check in checks)
