"""Reading tensors from whatever a module returns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from torch import Tensor

from ttame.errors import BackboneError


def tensors(output: Any) -> Iterator[Tensor]:
    """Yield all tensors of an output: tensor, tuple, list, mapping or dataclass, in order."""
    if isinstance(output, Tensor):
        yield output
    elif isinstance(output, Mapping):
        for value in output.values():
            yield from tensors(value)
    elif isinstance(output, (tuple, list)):
        for value in output:
            yield from tensors(value)
    elif is_dataclass(output) and not isinstance(output, type):
        for field in fields(output):
            yield from tensors(getattr(output, field.name))


def first_tensor(output: Any) -> Tensor | None:
    """Return the first tensor of an output, or None."""
    return next(tensors(output), None)


def logits_of(output: Any, batch: int) -> Tensor:
    """Find the logits (B, K) in what a classifier returns for ``batch`` images.

    Args:
        output: A tensor, something with ``logits`` (attribute or key), or a collection whose first
            2-D tensor is taken. (B, K, 1, 1) and (B,) are brought to (B, K).
        batch: B.

    Raises:
        BackboneError: There is nothing of that shape.

    Example:
        >>> import torch
        >>> logits_of({"loss": torch.zeros(()), "logits": torch.zeros(2, 5, 1, 1)}, 2).shape
        torch.Size([2, 5])
    """
    named = output.get("logits") if isinstance(output, Mapping) else getattr(output, "logits", None)
    found = [named] if isinstance(named, Tensor) else list(tensors(output))
    flat = [
        tensor.flatten(1) if tensor.ndim > 1 else tensor[:, None] for tensor in found if tensor.ndim
    ]
    # Spatial outputs count only where they are 1 x 1: flattening keeps their channels.
    right = [
        logits
        for tensor, logits in zip([t for t in found if t.ndim], flat, strict=True)
        if tensor.shape[0] == batch and logits.shape[1] == (*tensor.shape, 1)[1]
    ]
    if not right:
        shapes = [tuple(tensor.shape) for tensor in tensors(output)]
        raise BackboneError(
            f"expected logits of shape ({batch}, K), got {type(output).__name__} with tensors of "
            f"shapes {shapes}; wrap the classifier in a module that returns its logits"
        )
    return right[0]
