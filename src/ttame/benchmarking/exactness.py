"""Arithmetic of a run on a GPU: float32 proper, and the same kernels each time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


@contextmanager
def exact_arithmetic() -> Iterator[None]:
    """Compute in whole float32 and with cuDNN's repeatable kernels on a GPU; restore the settings.

    PyTorch lets cuDNN round the factors of convolutions to TF32, 10 bits, by default, and users
    allow it for matrix products: probabilities then move by up to a thousandth with the batch, as
    much as the drops that are measured. On a CPU it changes nothing.

    Example:
        >>> before = torch.backends.cudnn.deterministic
        >>> with exact_arithmetic():
        ...     torch.backends.cudnn.allow_tf32, torch.backends.cudnn.deterministic
        (False, True)
        >>> torch.backends.cudnn.deterministic == before
        True
    """
    cudnn, products = torch.backends.cudnn, torch.backends.cuda.matmul
    allowed = _tf32_in(cudnn, "conv"), _tf32_in(products)
    kernels = cudnn.benchmark, cudnn.deterministic
    try:
        cudnn.allow_tf32 = products.allow_tf32 = False
        cudnn.benchmark, cudnn.deterministic = False, True
        yield
    finally:
        cudnn.allow_tf32, products.allow_tf32 = allowed
        cudnn.benchmark, cudnn.deterministic = kernels


def _tf32_in(backend: Any, operator: str = "") -> bool:
    try:
        return bool(backend.allow_tf32)
    except RuntimeError:  # chosen by the settings of PyTorch 2.9 and later, and the old one is mute
        owner = getattr(backend, operator) if operator else backend
        return bool(owner.fp32_precision == "tf32")
