"""Whole float32 on a GPU, and cuDNN's repeatable kernels, while a run computes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch

_CUDNN: Any = torch.backends.cudnn
_PRODUCTS: Any = torch.backends.cuda.matmul


@contextmanager
def whole_float32() -> Iterator[None]:
    """Compute in whole float32 and with cuDNN's repeatable kernels on a GPU; restore the settings.

    PyTorch lets cuDNN round the factors of convolutions to TF32, 10 bits, by default, and users
    allow it for matrix products: probabilities then move by up to a thousandth with the batch, as
    much as the drops that are measured. On a CPU it changes nothing.

    Example:
        >>> with whole_float32():
        ...     torch.backends.cudnn.deterministic
        True
    """
    with ExitStack() as stack:
        for owner, name, value in _settings():
            stack.callback(setattr, owner, name, getattr(owner, name))
            setattr(owner, name, value)
        yield


def _settings() -> list[tuple[Any, str, Any]]:
    kernels = [(_CUDNN, "benchmark", False), (_CUDNN, "deterministic", True)]
    if hasattr(_PRODUCTS, "fp32_precision"):
        # From PyTorch 2.9 on: of each operator, whatever was chosen for all. The settings of before
        # cannot tell that, and raise an error where the two were mixed.
        owners = (_CUDNN.conv, _CUDNN.rnn, _PRODUCTS)
        return [*((owner, "fp32_precision", "ieee") for owner in owners), *kernels]
    return [(_CUDNN, "allow_tf32", False), (_PRODUCTS, "allow_tf32", False), *kernels]
