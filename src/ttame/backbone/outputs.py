"""Reading tensors from whatever a module returns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import torch
from torch import Tensor

from ttame.errors import BackboneError, unknown_name


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


def named_parts(output: Any) -> dict[str | int, Any]:
    """Return the parts of an output by the keys, attributes or places that they have.

    Example:
        >>> named_parts({"scores": 1, "aux": 2}), named_parts((1, 2))
        ({'scores': 1, 'aux': 2}, {0: 1, 1: 2})
    """
    if isinstance(output, Mapping):
        return dict(output)
    if is_dataclass(output) and not isinstance(output, type):
        return {field.name: getattr(output, field.name) for field in fields(output)}
    if hasattr(output, "_asdict"):
        return dict(output._asdict())
    if isinstance(output, (tuple, list)):
        return dict(enumerate(output))
    return dict(getattr(output, "__dict__", {}))


def part_of(output: Any, which: str | int | None = None) -> Any:
    """Pick the part of a classifier's output that holds the logits.

    Args:
        output: What the classifier returns.
        which: Key, attribute or place of the part; None takes what is called ``logits`` and, where
            nothing is, the whole output.

    Raises:
        UnknownNameError: The output has no such part.

    Example:
        >>> part_of({"loss": 0.5, "scores": 3}, "scores"), part_of((7, 8), -1)
        (3, 8)
    """
    if which is None:
        named = output.get("logits") if isinstance(output, Mapping) else None
        named = getattr(output, "logits", named)
        return named if isinstance(named, Tensor) else output
    parts = named_parts(output)
    if which in parts:
        return parts[which]
    if isinstance(which, int) and -len(parts) <= which < len(parts):
        return list(parts.values())[which]
    there = ", ".join(f"{name}: {_shape(value)}" for name, value in parts.items())
    raise unknown_name(
        "output",
        which,
        map(str, parts),
        f"(the classifier returns {there or f'only {_shape(output)}; leave logits= out'})",
    )


def flat_logits(output: Any, batch: int, which: str | int | None = None) -> Tensor:
    """Find the logits in what a classifier returns for ``batch`` images, as they are.

    Args:
        output: A tensor, something with ``logits`` (attribute or key), or a collection whose first
            tensor of the right shape is taken. (B, K, 1, 1) and (B,) are brought to (B, K).
        batch: B.
        which: See :func:`part_of`.

    Returns:
        (B, K) with K at least 1.

    Raises:
        UnknownNameError: The output has no such part.
        BackboneError: There is nothing of that shape.
    """
    found = [tensor for tensor in tensors(part_of(output, which)) if tensor.ndim]
    for tensor in found:
        logits = tensor.flatten(1) if tensor.ndim > 1 else tensor[:, None]
        # Spatial outputs count only where they are 1 x 1: flattening keeps their channels.
        if tensor.shape[0] == batch and logits.shape[1] == (*tensor.shape, 1)[1]:
            return logits
    shapes = [tuple(tensor.shape) for tensor in tensors(output)]
    raise BackboneError(
        f"expected logits of shape ({batch}, K), got {type(output).__name__} with tensors of "
        f"shapes {shapes}; say which they are with logits=, or wrap the classifier in a module "
        "that returns its logits"
    )


def two_classes(logit: Tensor, dim: int = 1) -> Tensor:
    """Show one logit z as two classes, negative and positive, with the logits -z/2 and z/2.

    Their softmax is exactly (1 - sigmoid(z), sigmoid(z)). Weights of the one logit are shown in the
    same way.

    Example:
        >>> import torch
        >>> two_classes(torch.tensor([[3.0]]))
        tensor([[-1.5000,  1.5000]])
    """
    return torch.cat([-logit / 2, logit / 2], dim=dim)


def logits_of(output: Any, batch: int, which: str | int | None = None) -> Tensor:
    """Find the logits (B, K) as :func:`flat_logits` does; one logit is shown as two classes.

    Example:
        >>> import torch
        >>> logits_of({"loss": torch.zeros(()), "logits": torch.zeros(2, 5, 1, 1)}, 2).shape
        torch.Size([2, 5])
        >>> logits_of((torch.zeros(2, 9, 7, 7), torch.zeros(2, 1)), 2, which=1).shape
        torch.Size([2, 2])
    """
    logits = flat_logits(output, batch, which)
    return two_classes(logits) if logits.shape[1] == 1 else logits


def _shape(value: Any) -> str:
    tensor = first_tensor(value)
    return type(value).__name__ if tensor is None else str(tuple(tensor.shape))
