"""Collecting what layers return during one call, and leaving no trace."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from ttame.backbone.outputs import first_tensor


@contextmanager
def listening(model: nn.Module, layers: Mapping[str, bool]) -> Iterator[dict[str, Tensor]]:
    """Collect the outputs of layers while the context is open, for calls made by this thread.

    Args:
        model: The module that holds the layers.
        layers: By name, whether the output must be copied because a later in-place operation
            overwrites it.

    Yields:
        A dictionary that fills with one tensor per layer during the call; where a layer returns
        more, the first tensor.

    Example:
        >>> import torch
        >>> model = nn.Sequential(nn.Linear(2, 3), nn.ReLU(inplace=True))
        >>> with listening(model, {"0": True}) as outputs:
        ...     _ = model(torch.zeros(1, 2))
        >>> outputs["0"].shape
        torch.Size([1, 3])
    """
    outputs: dict[str, Tensor] = {}
    owner = threading.get_ident()

    def listener(name: str, copy: bool) -> Any:
        def hook(_module: nn.Module, _inputs: Any, result: Any) -> None:
            # Hooks see the calls of every thread that shares the classifier.
            output = first_tensor(result) if threading.get_ident() == owner else None
            if output is not None:
                outputs[name] = output.clone() if copy else output

        return hook

    handles = []
    try:
        for name, copy in layers.items():
            handles.append(model.get_submodule(name).register_forward_hook(listener(name, copy)))
        yield outputs
    finally:
        for handle in handles:
            handle.remove()
